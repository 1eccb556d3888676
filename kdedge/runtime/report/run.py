"""From a run directory to the content of its report."""

import shlex
from collections.abc import Mapping
from typing import Any

from kdedge.errors import DataError
from kdedge.runtime.markup import percent, plain
from kdedge.runtime.report.look import Look, find_images, runnable
from kdedge.runtime.report.page import ReportData
from kdedge.runtime.report.pictures import LABELLED, UNLABELLED, pick_changes, pick_examples, pick_mistakes
from kdedge.runtime.report.speed import bench_summary
from kdedge.runtime.run_reader import RunRecord

__all__ = ["recorded_images", "report_data", "reproduce", "summary_of"]

FEW_IMAGES = 100
"""Images below which one of them counts more than a point."""

NOTICEABLE = 0.005
"""Difference between the accuracy that training recorded and that of the fp32 file, above which it is named."""


def report_data(run: RunRecord, look: Look | None = None, bench: Mapping[str, Any] | None = None) -> ReportData:
    """What the report of ``run`` shows.

    Args:
        look: what its files said about labelled images; None shows what was recorded alone.
        bench: what ``kdedge bench --out`` wrote; None takes what is in the run.
    """
    found = summary_of(run, bench)
    found["limits"] = [*(found.get("limits") or ()), *_limits(run, look)]
    card = run.best_card
    return ReportData(
        title=card.name if card else run.path.resolve().name,
        summary=found,
        history=run.history,
        mistakes=pick_mistakes(look) if look else (),
        changes=pick_changes(look) if look else (),
        gallery=pick_examples(run),
        commands=reproduce(run, look),
        run=run,
        look=look,
        tested=recorded_images(run),
        missing=_missing(run, found, look),
    )


def summary_of(run: RunRecord, bench: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``summary.json``, or for runs without one the same names with what the run's files say."""
    if run.summary:
        return {**run.summary, **(bench_summary(bench, _sizes(run)) if bench else {})}
    card = run.best_card
    found: dict[str, Any] = {
        "student": card.student if card else run.settings.get("student") or run.settings.get("network"),
        "teacher": card.teacher if card else run.settings.get("teacher"),
        "verdict": card.provenance.get("verdict") if card else None,
        **{
            key: run.scores[key]
            for key in run.scores
            if key.startswith(("heldout_", "test_r2", "test_cosine", "test_knn"))
        },
        **{f"{precision}_bytes": size for precision, size in _sizes(run).items()},
    }
    if card:
        made = card.provenance
        counts = {LABELLED: made.get("labelled_images"), UNLABELLED: made.get("transfer_images")}
        found["images"] = {name: count for name, count in counts.items() if count}
    bench = bench or run.bench
    return {**found, **(bench_summary(bench, _sizes(run)) if bench else {})}


def _sizes(run: RunRecord) -> dict[str, int]:
    return {precision: each.bytes for precision, each in runnable(run).items()}


def recorded_images(run: RunRecord) -> int | None:
    """How many test images the recorded accuracy is of; None if that cannot be told.

    No run records it. The test folder is counted, and believed only if the recorded accuracy is a share of that many.
    """
    if (counted := run.summary.get("images")) and isinstance(counted, Mapping) and isinstance(counted.get("test"), int):
        return int(counted["test"]) or None
    accuracy = run.scores.get("test_accuracy")
    try:
        found = find_images(run) if accuracy is not None else None
    except DataError:  # the folder has changed since
        return None
    if found is None or accuracy is None or not found.of:
        return None
    right = accuracy * found.of
    return found.of if abs(right - round(right)) <= max(1e-6 * found.of, 1e-4) else None


def reproduce(run: RunRecord, look: Look | None = None) -> list[str]:
    """Shell lines that make the run, its files and this page again; the first as it was recorded."""
    first = run.command.removeprefix("__main__.py ").strip()
    if first != run.command:
        first = f"kdedge {first}"
    lines = [first] if first else []
    if "quickstart" in first.split()[1:2]:
        lines += [_line("kdedge", "report", run.path)]
        return lines
    files = runnable(run)
    if small := next(iter(files.values()), None):
        card = small.card
        extra = ["--int8"] if card.precision == "int8" else ["--float16"] if card.precision == "fp16" else []
        extra += ["--target", card.target] if card.target not in ("", "x86") else []
        method = card.quantization.get("method")
        extra += ["--calibration", str(method)] if method and not card.quantization.get("candidates") else []
        lines.append(_line("kdedge", "export", run.path, *extra))
    if look:
        lines.append(_line("kdedge", "evaluate", run.path, look.found.name))
    data = [] if look is None or look.found.recorded else ["--data", look.found.name]
    most = [] if look is None or len(look.found.data) == look.found.of else ["--max-images", len(look.found.data)]
    lines.append(_line("kdedge", "report", run.path, *data, *most))
    return lines


def _line(*words: object) -> str:
    return shlex.join(str(word) for word in words)


def _missing(run: RunRecord, summary: Mapping[str, Any], look: Look | None) -> list[tuple[str, str]]:
    """(what, command) of the parts that are not there."""
    found: list[tuple[str, str]] = []
    section = "teacher fit" if run.kind == "teacher" else "distill" if run.kind == "distill" else f"train {run.kind}"
    if not run.finished:
        return [("The rest of the training", _line("kdedge", *section.split(), "--resume", "--out", run.path))]
    if run.card is not None and not run.card.labels:
        return [("A head and its accuracy, for the run had no labelled images", "kdedge distill ... --data DIR")]
    if run.export("int8") is None:
        found.append(
            (
                "The int8 file" if run.exports else "Exported files, fp32 and int8",
                _line("kdedge", "export", run.path, "--int8"),
            )
        )
    elif run.exports and not run.exports[0].card.fusion:
        found.append(
            (
                "Which layers run in int8, and what the guard says (an older export)",
                _line("kdedge", "export", run.path, "--int8", "--overwrite"),
            )
        )
    if look is None:
        what = "Confusion matrix, scores of each class and mistakes"
        found.append(
            (
                what + (", once it is exported" if not run.exports else ""),
                _line("kdedge", "report", run.path, "--data", "DIR"),
            )
        )
    if not summary.get("bench"):
        bench = run.path / "bench.json"
        found.append(
            (
                "Speed beside ResNet-50, memory",
                f"{_line('kdedge', 'bench', run.path, '--out', bench)} && {_line('kdedge', 'report', run.path)}",
            )
        )
    if run.kind == "distill" and not run.summary and "teacher_test_accuracy" not in run.scores:
        found.append(("The teacher's accuracy on test images", "kdedge distill ... --test DIR"))
    return found


def _limits(run: RunRecord, look: Look | None) -> list[str]:
    """What one has to know before one believes the figures."""
    found: list[str] = []
    small, whole = run.export("int8"), run.export("fp32")
    if small and whole and small.card.provenance.get("fp32_sha256") not in (None, whole.sha256):
        found.append(
            f"{small.path.name} was not made from the {whole.path.name} that lies beside it: their hashes differ."
        )
    if look is None:
        return found
    n = len(look.paths)
    if look.trained:
        found.append(
            f"The network was trained on {plain(look.trained)} of the {plain(n)} images: that says little about new ones."
        )
    if n < FEW_IMAGES:
        found.append(f"{n} images: one is {percent(1 / n)} of accuracy.")
    if look.unreadable:
        found.append(
            f"{plain(len(look.unreadable))} images could not be read and are left out; the first: {look.unreadable[0][1]}"
        )
    absent = [name for name, count in zip(look.found.data.classes, look.found.data.counts(), strict=True) if not count]
    if absent:
        found.append(f"There are no images of {len(absent)} of the classes, {absent[0]} for one.")
    recorded = run.scores.get("test_accuracy")
    now = look.answers.get("fp32")
    if look.whole and recorded is not None and now and abs(now.scores.accuracy - recorded) > NOTICEABLE:
        found.append(
            f"Training recorded {percent(recorded)} on the test images, the fp32 file reaches {percent(now.scores.accuracy)}: "
            "the images or the network have changed since."
        )
    return found
