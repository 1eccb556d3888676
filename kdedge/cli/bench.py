"""``kdedge bench``: a student beside its teacher on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kdedge.runtime.bench.run import Plan

__all__ = ["bench"]

SIZE = 224
CLASSES = 1000
BRIEF = "Latency, size and memory alone: no cold start, stages, overhead or energy."


def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Network to compare with, family/name, or 'none'.  [default: torchvision/resnet50 if it can be made]"
        ),
    ] = None,
    teacher_fp32: Annotated[
        Path | None, typer.Option(help="The teacher as an fp32 ONNX file made elsewhere, for a device without torch.")
    ] = None,
    teacher_int8: Annotated[Path | None, typer.Option(help="The same in int8.")] = None,
    teacher_fp16: Annotated[Path | None, typer.Option(help="The same in fp16, for a GPU.")] = None,
    student: Annotated[
        str | None, typer.Option(help="Time this untrained network, family/name, instead of a MODEL.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help=f"Pixels, for --student only.  [default: {SIZE}]")] = None,
    provider: Annotated[
        str, typer.Option(help="auto, cpu, cuda, tensorrt or xnnpack, for all; auto is what classify takes.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each network, at least.")] = 100,
    min_seconds: Annotated[
        float, typer.Option(min=0, help="Timed seconds of each network, at least; MLPerf asks for 600.")
    ] = 0.0,
    processes: Annotated[
        int, typer.Option(min=1, help="Fresh processes of each network, for cold start and memory.")
    ] = 3,
    sweep: Annotated[bool, typer.Option("--sweep", help="Throughput over images a run and threads, too.")] = False,
    batches: Annotated[
        str | None, typer.Option(metavar="N,N", help="Images a run for --sweep.  [default: 1,2,4,8]")
    ] = None,
    threads_sweep: Annotated[
        str | None, typer.Option(metavar="N,N", help="Threads for --sweep.  [default: 1,2,4... up to the cores]")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image for the stages, can be repeated.  [default: made-up JPEGs of 640x480 and 12 megapixels]"
        ),
    ] = None,
    energy: Annotated[bool, typer.Option(help="Energy an image, where the machine has a counter.")] = True,
    brief: Annotated[bool, typer.Option("--brief", help=BRIEF)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every sample.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write that JSON to this file, too.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this Markdown file, too.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A B", help="Measure nothing; compare two files of --out.")
    ] = None,
) -> None:
    """Latency, throughput, start-up, stages, memory, size and energy of a student beside its teacher, fp32 and int8.

    All run in the same onnxruntime on the same provider and threads, in turns, one image at a time. Start-up and peak memory
    are those of fresh processes. Networks named family/name are made here, untrained, which needs pip install
    'kdedge[train]'. What disturbed the machine meanwhile is said as a warning.

    \b
    Examples:
      kdedge bench
      kdedge bench runs/first --out bench.json --markdown bench.md
      kdedge bench runs/first --sweep --batches 1,8 --threads-sweep 1,2
      kdedge bench student.int8.onnx --teacher-fp32 resnet50.fp32.onnx --teacher-int8 resnet50.int8.onnx --min-seconds 10
      kdedge bench --student timm/mobilenetv4_conv_small --teacher torchvision/resnet50 --size 224 --json
      kdedge bench --compare before.json after.json
    """
    if compare:
        _compare(*compare)
        return
    from kdedge.cli.progress import progress_bar
    from kdedge.files import check_writable, write_json, write_text
    from kdedge.runtime.bench.run import run_bench
    from kdedge.runtime.bench.table import as_markdown, as_text, bench_tables, notes

    check_writable(out, markdown)
    files = {"fp32": teacher_fp32, "int8": teacher_int8, "fp16": teacher_fp16}
    counts = {"batches": _numbers("--batches", batches), "threads": _numbers("--threads-sweep", threads_sweep)}
    plan = _plan(model, student, size, teacher, files, provider, threads)
    plan = _scope(plan, repeats, min_seconds, processes, tuple(image or ()), energy, brief, sweep, counts)
    found = run_bench(plan, progress_bar, lambda line: print(line, file=sys.stderr)).to_dict()
    tables, said = bench_tables(found), notes(found)
    if out:
        write_json(out, found)
    if markdown:
        write_text(markdown, as_markdown(f"{found['rows'][0]['model']} on this machine", tables, said))
    if as_json:
        import json

        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print(as_text(tables, said))


def _plan(
    model: str | None,
    student: str | None,
    size: int | None,
    teacher: str | None,
    files: dict[str, Path | None],
    provider: str,
    threads: int | None,
) -> "Plan":
    """The files to time."""
    from kdedge.cli.bench_networks import networks, teachers
    from kdedge.errors import ModelError
    from kdedge.runtime.bench.models import choose_files
    from kdedge.runtime.bench.run import Plan
    from kdedge.runtime.providers import PROVIDERS

    if model and student:
        raise ModelError(f"either the model {model} or the network --student {student} can be timed, not both.")
    if provider not in PROVIDERS:
        raise ModelError(f"provider {provider!r} is not known; it is one of {', '.join(PROVIDERS)}.")
    if student:
        pixels, classes = size or SIZE, CLASSES
        provider = "cpu" if provider == "auto" else provider
        candidates = networks(student, pixels, classes, "student", provider)
        chosen = candidates[1].path  # the int8 file
    else:
        its = choose_files(model, provider, threads, lambda line: print(line, file=sys.stderr))
        print(f"model: {its.card.name} ({its.card.precision}), {its.why}: {its.path}", file=sys.stderr)
        pixels, classes = its.card.preprocess.size, len(its.card.labels)
        if size not in (None, pixels):
            raise ModelError(
                f"--size {size} does not fit: this model takes {pixels} pixels; --size goes with --student."
            )
        candidates, provider, chosen = list(its.candidates), its.provider, its.path
    candidates += teachers(teacher, files, pixels, classes, provider)
    return Plan(tuple(candidates), pixels, chosen, provider, threads)


def _scope(
    plan: "Plan",
    repeats: int,
    min_seconds: float,
    processes: int,
    images: tuple[Path, ...],
    energy: bool,
    brief: bool,
    sweep: bool,
    counts: dict[str, tuple[int, ...]],
) -> "Plan":
    """How much to measure of them."""
    from dataclasses import replace

    from kdedge.runtime.bench.sweep import BATCHES, thread_counts

    wanted = sweep or any(counts.values())
    return replace(
        plan,
        model=None if brief else plan.model,
        repeats=repeats,
        min_seconds=min_seconds,
        processes=0 if brief else processes,
        images=images,
        sweep_batches=(counts["batches"] or BATCHES) if wanted else (),
        sweep_threads=(counts["threads"] or thread_counts()) if wanted else (),
        energy=energy and not brief,
    )


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    from kdedge.errors import ModelError

    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ModelError(f"{option} is {text!r}; whole numbers above zero were expected, with commas between: 1,2,4.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _compare(before: Path, after: Path) -> None:
    from kdedge.runtime.bench.diff import bench_diff, read_bench_file
    from kdedge.runtime.bench.table import as_text

    found: list[dict[str, Any]] = [read_bench_file(path) for path in (before, after)]
    table, differences = bench_diff(*found)
    print(as_text([table], [f"Not the same: {line}." for line in differences]))
