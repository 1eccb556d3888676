"""``kdedge report``: one page about a run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kdedge.runtime.report.look import Look
    from kdedge.runtime.run_reader import RunRecord

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, finished or not.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled images to evaluate on, one folder a class.  [default: the run's own test images]"),
    ] = None,
    no_data: Annotated[bool, typer.Option("--no-data", help="Evaluate nothing; show what was recorded.")] = False,
    bench: Annotated[
        Path | None, typer.Option(help="What 'kdedge bench --out' wrote.  [default: bench.json in RUN, if it is there]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write.  [default: report.html in RUN]")] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Evaluate on no more images than that, evenly spaced.  [default: all]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written and measured as JSON.")] = False,
) -> None:
    """One self-contained HTML page about a run: scores, mistakes, curves, speed, what runs in int8, how it was made.

    The exported files are evaluated on the images of --data, else on the run's own test images if they are still there.
    The page needs no network and no script, and has at most about 1.5 MB.

    \b
    Examples:
      kdedge report runs/first
      kdedge report runs/first --data data/test --bench bench.json --out first.html --open
      kdedge report runs/teacher --no-data --json
    """
    import os

    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from kdedge.errors import DataError
    from kdedge.runtime.report.page import write_report
    from kdedge.runtime.report.run import report_data
    from kdedge.runtime.run_reader import read_bench, read_run

    if data is not None and no_data:
        raise DataError(f"either the images of --data {data} or --no-data, not both.")
    found = read_run(run)
    timed = read_bench(bench) if bench else None
    seen = None if no_data else _look(found, data, max_images, threads)
    page = report_data(found, seen, timed)
    path = out or run / "report.html"
    write_report(path, page)
    if as_json:
        import json

        print(json.dumps(_summary(path, found, seen, page.missing), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print(f"report: {path} ({path.stat().st_size / 1e3:.0f} kB)")
        for what, command in page.missing:
            print(f"not on it: {what[0].lower()}{what[1:]}; {command}")
    if show:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            print(f"no browser could be opened; the page is {path}", file=sys.stderr)


def _look(run: "RunRecord", data: Path | None, most: int | None, threads: int | None) -> "Look | None":
    """Evaluate where there is something to evaluate, and say on what."""
    from kdedge.cli.progress import progress_bar
    from kdedge.errors import DataError
    from kdedge.runtime.report.look import find_images, look

    if not run.exports:
        if data is not None:
            raise DataError(
                f"{run.path}: nothing is exported, so nothing can be evaluated; run 'kdedge export {run.path} --int8'."
            )
        return None
    found = find_images(run, data, most)
    if found is None:
        recorded = run.settings.get("test") or run.settings.get("manifest")
        why = f"its test images, {recorded}, are not there any more" if recorded else "it has no test images of its own"
        print(f"not evaluated: {why}; give images with --data DIR", file=sys.stderr)
        return None
    part = f"{len(found.data)} of {found.of}" if len(found.data) < found.of else f"{found.of}"
    role = {"given": "given", "test": "test images of the run"}.get(found.role, f"{found.role} images of the run")
    print(f"evaluate: {part} images of {found.name} ({role})", file=sys.stderr)
    with progress_bar("evaluate") as progress:
        seen = look(run, found, threads, progress)
    for _, reason in seen.unreadable:
        print(f"unreadable: {reason}", file=sys.stderr)
    if seen.trained:
        print(f"warning: the network was trained on {seen.trained} of these {len(seen.paths)} images", file=sys.stderr)
    return seen


def _summary(path: Path, run: "RunRecord", seen: "Look | None", missing: Any) -> dict[str, Any]:
    evaluated = None
    if seen:
        evaluated = {
            "data": seen.found.name,
            "role": seen.found.role,
            "images": len(seen.paths),
            "of": seen.found.of,
            "trained_on": seen.trained,
            "unreadable": len(seen.unreadable),
            "accuracy": {precision: answers.scores.accuracy for precision, answers in seen.answers.items()},
            "disagreements": _changed(seen),
        }
    return {
        "report": str(path),
        "bytes": path.stat().st_size,
        "run": str(run.path),
        "kind": run.kind,
        "finished": run.finished,
        "exports": [each.path.name for each in run.exports],
        "evaluated": evaluated,
        "recorded": dict(run.scores),
        "missing": [{"what": what, "command": command} for what, command in missing],
    }


def _changed(seen: "Look") -> int | None:
    if "int8" not in seen.answers or "fp32" not in seen.answers:
        return None
    return int((seen.answers["int8"].guesses != seen.answers["fp32"].guesses).sum())
