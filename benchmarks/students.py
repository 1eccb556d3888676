"""Students beside each other: a quickstart each, with the same seed and budget, one after another.

What is finished is kept: run it again with more students or seeds, and only the new ones are trained.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import (
    RESULTS,
    all_conditions,
    conditions_line,
    images_per_second,
    markdown_table,
    run_quickstart,
    slug,
    write_results,
)

STUDENTS = (
    "timm/efficientnet_lite0",
    "timm/resnet10t",
    "timm/mobilenetv4_conv_small",
    "timm/regnetx_002",
    "timm/fasternet_t0",
    "torchvision/resnet18",
)
NUMBERS = (
    "images_per_s",
    "teacher_accuracy",
    "student_fp32_accuracy",
    "student_int8_accuracy",
    "scratch_accuracy",
    "shift_accuracy",
    "heldout_r2",
    "heldout_cosine",
    "int8_bytes",
    "p50_ms",
    "speedup",
    "int8_conv_share",
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("students", nargs="*", default=list(STUDENTS), help="family/name; by default six small ones")
    options.add_argument("--seeds", type=int, nargs="+", default=[0], help="quickstarts of each, averaged in the table")
    options.add_argument("--budget", type=float, default=5.5, help="minutes of each quickstart")
    options.add_argument("--runs", type=Path, default=Path("runs/students"), help="folder of the run directories")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Run what is missing, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    rows = []
    for student in given.students:
        for seed in given.seeds:
            out = given.runs / f"{student.replace('/', '-')}-{given.budget:g}min-seed{seed}"
            summary = run_quickstart(out, student, seed, given.budget)
            rows.append(row_of(summary, images_per_second(out, summary["training_seconds"])))
    known = all_conditions()
    data = {"rows": rows, "budget_minutes": given.budget, "seeds": given.seeds, "conditions": known}
    return write_results(given.results, f"students-{given.budget:g}min-{slug(known)}", data, markdown(data))


def row_of(summary: dict[str, Any], images_per_s: float | None) -> dict[str, Any]:
    """What the table needs of one ``summary.json``."""
    taken = {name: summary[name] for name in NUMBERS if name not in ("images_per_s", "p50_ms")}
    return {
        "student": summary["student"],
        "weights": summary["student_weights"],
        "seed": summary["seed"],
        "training_seconds": summary["training_seconds"],
        "images_per_s": images_per_s,
        "p50_ms": summary["p50_ms"]["student_int8"],
        "measured": summary["bench"]["conditions"]["date"],
        **taken,
    }


def mean(rows: list[dict[str, Any]], name: str) -> float | None:
    """The mean over seeds; None if a run lacks it."""
    values = [row[name] for row in rows]
    return None if None in values else statistics.fmean(values)


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = ("student", "starts from", "train images/s", "teacher", "fp32", "int8", "from scratch", "shift")
    head += ("held-out R2", "cosine", "int8 MB", "p50 int8 ms", "faster than ResNet-50", "int8 share")
    table = []
    for student in dict.fromkeys(row["student"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["student"] == student]
        value = {name: mean(rows, name) for name in NUMBERS}
        cells = [student, short(rows[0]["weights"]), show(value["images_per_s"], ".0f")]
        cells += [show(value[name], ".3f") for name in NUMBERS[1:6]]
        cells += [show(value["heldout_r2"], ".2f"), show(value["heldout_cosine"], ".2f")]
        cells += [
            f"{rows[0]['int8_bytes'] / 1e6:.1f}",
            show(value["p50_ms"], ".2f"),
            show(value["speedup"], ".1f") + "x",
        ]
        cells += [show(value["int8_conv_share"], ".0%")]
        table.append(cells)
    seeds = ", ".join(map(str, data["seeds"]))
    known = data["conditions"]
    return (
        f"# Students of the quickstart, {data['budget_minutes']:g} minutes each\n\n{markdown_table(head, table)}\n"
        f"Means over seeds {seeds}. Accuracies on the test crops; shift: studio sheets labelled, other photographs "
        "tested. Latency at 112 px, one image, in onnxruntime; ResNet-50 is fp32 in the same runtime. Training images a "
        f"second include the evaluations in between.\n\n{conditions_line(known)}\n"
    )


def show(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)


def short(weights: str) -> str:
    """What a student started from, in a word."""
    return "random" if weights == "random" else "ImageNet" if "ImageNet" in weights else weights


if __name__ == "__main__":
    try:
        print(main())
    except KeyboardInterrupt:
        sys.exit(130)
