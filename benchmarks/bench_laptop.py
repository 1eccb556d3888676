"""A model beside ResNet-50 on this machine, fp32 and int8: the same threads, in turns, one image at a time.

On a device without torch, ResNet-50 cannot be made: give the files made elsewhere with --teacher-fp32 and --teacher-int8.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from kdedge.errors import KdedgeError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.compare import Candidate, Comparison, compare
from kdedge.runtime.models import default_model

TEACHER = "torchvision/resnet50"


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "model", nargs="?", help="an .onnx file, a run directory or a name of the zoo; as kdedge bench"
    )
    options.add_argument("--teacher-fp32", type=Path, help="ResNet-50 as fp32 ONNX, made elsewhere")
    options.add_argument("--teacher-int8", type=Path, help="the same in int8")
    options.add_argument("--threads", type=int, help="by default the cores there are, at most 4")
    options.add_argument("--repeats", type=int, default=200, help="timed runs of each network")
    options.add_argument("--name", default="laptop", help="start of the names of the result files")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    path, why = default_model(given.model)
    card = Classifier(path, 1).card
    size, classes = card.preprocess.size, len(card.labels)
    print(f"model: {card.name}, {why}: {path}", file=sys.stderr)
    candidates = [Candidate(card.name, card.precision, path)]
    sibling = path.with_name(path.name.replace(".int8.onnx", ".onnx"))
    if sibling != path and sibling.is_file():
        candidates.insert(0, Candidate(card.name, "fp32", sibling))
    if given.teacher_fp32 or given.teacher_int8:
        files = {"fp32": given.teacher_fp32, "int8": given.teacher_int8}
    else:
        from kdedge.export.networks import network_onnx  # needs kdedge[train]

        files = {
            "fp32": network_onnx(TEACHER, size, "fp32", classes),
            "int8": network_onnx(TEACHER, size, "int8", classes),
        }
    candidates += [Candidate(TEACHER, name, file, role="teacher") for name, file in files.items() if file]
    found = compare(candidates, size, given.threads, given.repeats)
    data = {**found.to_dict(), "conditions": {**found.conditions, "versions": all_conditions()["versions"]}}
    for row in data["rows"]:
        row["path"] = Path(row["path"]).name  # where it lies is nobody's business
    return write_results(given.results, f"{given.name}-{slug(data['conditions'])}", data, markdown(found, data))


def markdown(found: Comparison, data: dict[str, Any]) -> str:
    """The result for people."""
    head = ("model", "precision", "MB", "p50 ms", "p90 ms", "p99 ms", "images/s", "peak MB", "faster", "smaller")
    rows = []
    for row in found.rows:
        time = row.latency
        numbers = [f"{value:.2f}" for value in (row.bytes / 1e6, time.p50_ms, time.p90_ms, time.p99_ms)]
        peak = f"{row.peak_rss_mb:.0f}" if row.peak_rss_mb else "-"
        ratios = [f"{ratio:.1f}x" if ratio else "-" for ratio in (found.speedup(row), found.shrink(row))]
        name = (row.candidate.model, row.candidate.precision)
        rows.append((*name, *numbers, f"{time.images_per_s:.1f}", peak, *ratios))
    known = data["conditions"]
    return (
        f"# {found.rows[0].candidate.model} beside ResNet-50\n\n{markdown_table(head, rows)}\n"
        f"{known['size']} px, batch {known['batch']}, {known['repeats']} timed runs of each after {known['warmup']} "
        "untimed ones, in turns. Faster and smaller: than ResNet-50 fp32, which is untrained: only its time means "
        f"anything.\n\n{conditions_line(known)}\n"
    )


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
