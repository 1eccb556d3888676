"""``kdedge bench``: a student beside its teacher on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kdedge.runtime.compare import Candidate, Comparison

__all__ = ["bench"]

TEACHER = "torchvision/resnet50"
SIZE = 224
CLASSES = 1000


def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help=f"Network to compare with, family/name, or 'none'.  [default: {TEACHER} if it can be made]"),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Time this untrained network, family/name, instead of a MODEL.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help=f"Pixels, for --student only.  [default: {SIZE}]")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each network.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every sample.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write that JSON to this file, too.")] = None,
) -> None:
    """Latency, throughput, file size and memory of a student beside its teacher, fp32 and int8.

    All run in onnxruntime on the same threads, in turns, one image at a time; peak memory is that of a fresh process
    for each. Networks named family/name are made here, untrained, which needs pip install 'kdedge[train]'.

    \b
    Examples:
      kdedge bench
      kdedge bench runs/first --out bench.json
      kdedge bench --student timm/mobilenetv4_conv_small --teacher torchvision/resnet50 --size 224 --json
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.errors import ModelError
    from kdedge.files import write_json
    from kdedge.runtime.compare import compare

    if model and student:
        raise ModelError(f"either the model {model} or the network --student {student} can be timed, not both.")
    if student:
        pixels, classes = size or SIZE, CLASSES
        candidates = _networks(student, pixels, classes, "student")
    else:
        candidates, pixels, classes = _files(model)
        if size not in (None, pixels):
            raise ModelError(
                f"--size {size} does not fit: this model takes {pixels} pixels; --size goes with --student."
            )
    candidates += _teacher(teacher, pixels, classes)
    with progress_bar("bench") as progress:
        found = compare(candidates, pixels, threads, repeats, progress=progress)
    if out:
        write_json(out, found.to_dict())
    if as_json:
        import json

        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _files(model: str | None) -> tuple[list["Candidate"], int, int]:
    """A model file and its sibling of the other precision, if there is one; with its pixels and number of classes."""
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.compare import Candidate
    from kdedge.runtime.models import default_model

    path, why = default_model(model)
    card = Classifier(path, 1).card
    print(f"model: {card.name} ({card.precision}), {why}: {path}", file=sys.stderr)
    stem = path.name.removesuffix(".onnx").removesuffix(".int8")
    pair = [path.with_name(f"{stem}.onnx"), path.with_name(f"{stem}.int8.onnx")]
    cards = {file: Classifier(file, 1).card for file in pair if file.is_file()} or {path: card}
    files = [file for file, its in cards.items() if its.preprocess.size == card.preprocess.size]
    candidates = [Candidate(card.name, cards[file].precision, file) for file in files]
    return candidates, card.preprocess.size, len(card.labels)


def _teacher(teacher: str | None, size: int, classes: int) -> list["Candidate"]:
    from kdedge.errors import KdedgeError

    if teacher == "none":
        return []
    try:
        return _networks(teacher or TEACHER, size, classes, "teacher")
    except KdedgeError as error:
        if teacher:
            raise
        print(f"no teacher beside it: {error}", file=sys.stderr)
        return []


def _networks(name: str, size: int, classes: int, role: str) -> list["Candidate"]:
    from kdedge.cli.progress import progress_bar
    from kdedge.errors import ModelError
    from kdedge.runtime.compare import Candidate

    try:
        from kdedge.export.networks import network_onnx

        with progress_bar(f"make {name}") as progress:
            files = {
                precision: network_onnx(name, size, precision, classes, progress) for precision in ("fp32", "int8")
            }
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{name}: the network must be made here, which needs {error.name}: pip install 'kdedge[train]'."
        ) from error
    return [Candidate(name, precision, path, role=role) for precision, path in files.items()]


def _print(found: "Comparison") -> None:
    head = (
        "model",
        "precision",
        "MB",
        "parameters",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "images/s",
        "peak MB",
        "faster",
        "smaller",
    )
    table: list[tuple[str, ...]] = [head]
    for row in found.rows:
        time = row.latency
        table.append(
            (
                row.candidate.model,
                row.candidate.precision,
                f"{row.bytes / 1e6:.2f}",
                f"{row.parameters:,}" if row.parameters else "-",
                *(f"{value:.2f}" for value in (time.p50_ms, time.p90_ms, time.p99_ms)),
                f"{time.images_per_s:.1f}",
                f"{row.peak_rss_mb:.0f}" if row.peak_rss_mb else "-",
                *(f"{ratio:.1f}x" if ratio else "-" for ratio in (found.speedup(row), found.shrink(row))),
            )
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        left = f"{line[0]:<{widths[0]}}  {line[1]:<{widths[1]}}"
        print(left + "".join(f"  {cell:>{width}}" for cell, width in zip(line[2:], widths[2:], strict=True)))
    print(_conditions(found.conditions))


def _conditions(known: dict[str, Any]) -> str:
    flags = " ".join(known["cpu_flags"])
    return (
        f"\n{known['cpu']} ({flags}), {known['threads']} of {known['cores_usable']} cores, "
        f"onnxruntime {known['versions'].get('onnxruntime', '?')} ({', '.join(known['providers'])}), "
        f"{known['size']} px, batch {known['batch']}, {known['repeats']} repeats; "
        "faster and smaller: than the fp32 teacher"
    )
