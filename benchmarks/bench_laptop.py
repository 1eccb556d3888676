"""A model beside ResNet-50 on this machine, fp32 and int8: all that ``kdedge bench --sweep`` measures, with the conditions.

On a device without torch, ResNet-50 cannot be made: give the files made elsewhere with --teacher-fp32 and --teacher-int8.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.common import RESULTS, all_conditions, slug, write_results
from kdedge.cli.bench_networks import TEACHER, teachers
from kdedge.cli.progress import progress_bar
from kdedge.errors import KdedgeError
from kdedge.runtime.bench.models import choose_files
from kdedge.runtime.bench.run import Plan, run_bench
from kdedge.runtime.bench.sweep import BATCHES, thread_counts
from kdedge.runtime.bench.table import as_markdown, bench_tables, notes

__all__ = ["TEACHER", "main", "options_of", "parser", "plan_of", "write"]


def options_of(description: str, name: str) -> argparse.ArgumentParser:
    """The options of this script and of the one for a Jetson."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "model", nargs="?", help="an .onnx file, a run directory or a name of the zoo; as kdedge bench"
    )
    options.add_argument("--teacher-fp32", type=Path, help="ResNet-50 as fp32 ONNX, made elsewhere")
    options.add_argument("--teacher-int8", type=Path, help="the same in int8")
    options.add_argument("--teacher-fp16", type=Path, help="the same in fp16, for a GPU")
    options.add_argument("--threads", type=int, help="by default the cores there are, at most 4")
    options.add_argument("--repeats", type=int, default=200, help="timed runs of each network, at least")
    options.add_argument("--min-seconds", type=float, default=10.0, help="timed seconds of each network, at least")
    options.add_argument("--processes", type=int, default=7, help="fresh processes of each network, for the cold start")
    options.add_argument("--image", type=Path, action="append", help="for the stages; by default made-up JPEGs")
    options.add_argument("--no-sweep", action="store_true", help="leave the sweep over images and threads out")
    options.add_argument("--name", default=name, help="start of the names of the result files")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def parser() -> argparse.ArgumentParser:
    """The options."""
    return options_of(__doc__ or "", "laptop")


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    return write(given, plan_of(given, "cpu"))


def plan_of(given: argparse.Namespace, provider: str) -> Plan:
    """What to measure, all of it on ``provider``."""
    chosen = choose_files(given.model, provider, given.threads, told)
    size, classes = chosen.card.preprocess.size, len(chosen.card.labels)
    told(f"model: {chosen.card.name}, {chosen.why}: {chosen.path}")
    files = {"fp32": given.teacher_fp32, "int8": given.teacher_int8, "fp16": given.teacher_fp16}
    beside = teachers(None if any(files.values()) else TEACHER, files, size, classes, provider)
    plan = Plan((*chosen.candidates, *beside), size, chosen.path, provider, given.threads, given.repeats)
    return replace(
        plan,
        min_seconds=given.min_seconds,
        processes=given.processes,
        images=tuple(given.image or ()),
        sweep_batches=() if given.no_sweep else BATCHES,
        sweep_threads=() if given.no_sweep else thread_counts(),
    )


def write(given: argparse.Namespace, plan: Plan) -> Path:
    """Measure and write."""
    data = run_bench(plan, progress_bar, told).to_dict()
    data["conditions"]["versions"] = all_conditions()["versions"]
    for row in data["rows"]:
        row["path"] = Path(row["path"]).name  # where it lies is nobody's business
    known = data["conditions"]
    said = notes(data)
    said.append(
        f"{known['date'][:10]}, {known['os']}. ResNet-50 is untrained where it was made here: only its time and size mean "
        "anything. The protocol stands in the README of `benchmarks/`."
    )
    page = as_markdown(f"{data['rows'][0]['model']} beside ResNet-50", bench_tables(data), said)
    return write_results(given.results, f"{given.name}-{slug(known)}", data, page)


def told(line: str) -> None:
    """Say a line on stderr."""
    print(line, file=sys.stderr)


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
