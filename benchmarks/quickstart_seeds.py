"""The quickstart with several seeds, held against its targets. Finished runs are not run again.

The exit code is 1 if a target is missed.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import (
    RESULTS,
    all_conditions,
    conditions_line,
    markdown_table,
    run_quickstart,
    slug,
    write_results,
)

DEFAULT = "timm/efficientnet_lite0"


@dataclass(frozen=True)
class Target:
    """A number that a quickstart should reach: at least ``bound``, or at most with ``most``."""

    name: str
    value: Callable[[dict[str, Any]], float]
    bound: float
    form: str = ".3f"
    most: bool = False

    def met(self, summary: dict[str, Any]) -> bool:
        """Whether the summary reaches it; accuracies are counts, so rounding errors of a difference are forgiven."""
        value = round(self.value(summary), 9)
        return value <= self.bound if self.most else value >= self.bound

    def words(self) -> str:
        """``at least 0.97``."""
        return f"{'at most' if self.most else 'at least'} {self.bound:g}"


TARGETS = (
    Target("teacher accuracy", lambda s: s["teacher_accuracy"], 0.97),
    Target("int8 accuracy", lambda s: s["student_int8_accuracy"], 0.92),
    Target("int8 from fp32", lambda s: abs(s["student_int8_accuracy"] - s["student_fp32_accuracy"]), 0.02, most=True),
    Target("int8 above scratch", lambda s: s["student_int8_accuracy"] - s["scratch_accuracy"], 0.10),
    Target("seconds", lambda s: s["seconds"]["total"], 360, ".0f", most=True),
    Target("times faster", lambda s: s["speedup"], 10, ".1f"),
    Target("times smaller", lambda s: s["size_ratio"], 18, ".1f"),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one quickstart each")
    options.add_argument("--student", default=DEFAULT, help="family/name")
    options.add_argument("--budget", type=float, default=5.5, help="minutes of each quickstart")
    options.add_argument("--runs", type=Path, default=Path("runs/seeds"), help="folder of the run directories")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, write JSON and Markdown, return the exit code."""
    given = parser().parse_args(arguments)
    name = given.student.replace("/", "-")
    summaries = [
        run_quickstart(given.runs / f"{name}-{given.budget:g}min-seed{seed}", given.student, seed, given.budget)
        for seed in given.seeds
    ]
    known = all_conditions()
    data = {
        "student": given.student,
        "budget_minutes": given.budget,
        "rows": [row_of(summary) for summary in summaries],
        "targets": {target.name: target.words() for target in TARGETS},
        "conditions": known,
    }
    stem = f"quickstart-{name}-{given.budget:g}min-{slug(known)}"
    print(write_results(given.results, stem, data, markdown(summaries, data)))
    return 0 if all(target.met(summary) for target in TARGETS for summary in summaries) else 1


def row_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers the targets are about, with the verdicts."""
    return {
        "seed": summary["seed"],
        **{target.name: target.value(summary) for target in TARGETS},
        "met": {target.name: target.met(summary) for target in TARGETS},
        "shift_accuracy": summary["shift_accuracy"],
        "heldout_r2": summary["heldout_r2"],
        "heldout_cosine": summary["heldout_cosine"],
        "seconds_by_step": summary["seconds"],
        "measured": summary["bench"]["conditions"]["date"],
    }


def markdown(summaries: list[dict[str, Any]], data: dict[str, Any]) -> str:
    """The result for people: a row a target, a column a seed."""
    head = ("", "target", *(f"seed {summary['seed']}" for summary in summaries))
    rows = []
    for target in TARGETS:
        cells = [
            format(target.value(summary), target.form) + ("" if target.met(summary) else " (missed)")
            for summary in summaries
        ]
        rows.append((target.name, target.words(), *cells))
    for name in ("shift_accuracy", "heldout_r2", "heldout_cosine"):
        rows.append((name.replace("_", " "), "", *(f"{summary[name]:.3f}" for summary in summaries)))
    return (
        f"# Quickstart, {data['student']}, {data['budget_minutes']:g} minutes\n\n{markdown_table(head, rows)}\n"
        "Faster and smaller: int8 than ResNet-50 fp32 in the same runtime, 112 px, one image.\n\n"
        f"{conditions_line(data['conditions'])}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
