"""How the quickstart ends: a table, the next commands, and the report."""

from pathlib import Path
from typing import Any

import numpy as np

from kdedge.preprocess import Image, decode
from kdedge.quickstart.story import Story
from kdedge.runtime.report.head import FEWEST_STEPS
from kdedge.runtime.report.page import Mistake, ReportData, write_report
from kdedge.runtime.run_reader import read_run

__all__ = ["print_table", "table", "write_story_report"]

EXAMPLES = 10


def write_story_report(story: Story) -> Path:
    """Write ``report.html`` into the run directory."""
    done, people = story.distilled, story.distilled.card.labels
    wrong = [
        Mistake(decode(prediction.source), truth, prediction.label, prediction.probability)
        for prediction, truth in zip(story.predictions, story.truth, strict=True)
        if prediction.label != truth
    ]
    wrong.sort(key=lambda mistake: -mistake.probability)
    material, bank = done.material, done.bank
    assert material.train is not None
    rows = done.labelled_rows
    gallery: dict[str, list[Image]] = {
        "labelled crops": _spread(list(material.train.images)),
        "augmented views, labels unused": _spread([np.asarray(bank.views[row]) for row in rows[1 :: len(rows) // 40]]),
        "generated faces, unlabelled": _spread(list(np.asarray(material.transfer[:]))),
    }
    seed = story.summary["seed"]
    path = story.run.path / "report.html"
    data = ReportData(
        title=f"{done.card.student}: {len(people)} people from {len(material.train.paths)} labelled crops",
        summary=story.summary,
        scores=story.evaluation.scores,
        history=story.run.history(),
        mistakes=wrong,
        gallery=gallery,
        commands=[f"kdedge quickstart --seed {seed} --student {done.card.student}", *_next(story)],
        run=read_run(story.run.path),
    )
    write_report(path, data)
    return path


def _spread(images: list[Image]) -> list[Image]:
    chosen = np.unique(np.linspace(0, len(images) - 1, min(EXAMPLES, len(images)), dtype=int))
    return [images[index] for index in chosen]


def _next(story: Story) -> list[str]:
    run = story.run.path
    return [
        f"kdedge classify --faces {story.summary['classified']['image']} --model {run}",
        f"kdedge classify {run}/data/test/{story.summary['classified']['truth']} --model {run}",
        f"kdedge evaluate {run} {run}/data/test",
        f"kdedge bench {run}",
        f"kdedge report {run} --open",
    ]


def table(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of (what, accuracy, size, latency) for people, the header first."""
    ms, count = summary["p50_ms"], summary["images"]["test"]

    def megabytes(key: str) -> str:
        return f"{summary[key] / 1e6:.1f} MB"

    return [
        ("", f"accuracy ({count} test crops)", "file", "latency p50"),
        ("teacher, linear probe", f"{summary['teacher_accuracy']:.3f}", "", ""),
        (
            "student int8",
            f"{summary['student_int8_accuracy']:.3f}",
            megabytes("int8_bytes"),
            f"{ms['student_int8']:.2f} ms",
        ),
        (
            "student fp32",
            f"{summary['student_fp32_accuracy']:.3f}",
            megabytes("fp32_bytes"),
            f"{ms['student_fp32']:.2f} ms",
        ),
        ("same network from scratch", f"{summary['scratch_accuracy']:.3f}", "", ""),
        ("ResNet-50 int8 (timing only)", "", megabytes("resnet50_int8_bytes"), f"{ms['resnet50_int8']:.2f} ms"),
        ("ResNet-50 fp32 (timing only)", "", megabytes("resnet50_fp32_bytes"), f"{ms['resnet50_fp32']:.2f} ms"),
    ]


def print_table(story: Story, report: Path) -> None:
    """The closing words on stdout."""
    summary, run = story.summary, story.run.path
    rows = table(summary)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    print()
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("-" * (sum(widths) + 6))
    print(
        f"\nint8 student: {summary['speedup']:.1f}x faster and {summary['size_ratio']:.1f}x smaller than ResNet-50 fp32, "
        f"{summary['int8_conv_share']:.0%} of its convolutions in int8."
    )
    print(
        f"Harder split ({summary['shift']['tested']} crops of other photographs, studio sheets labelled): "
        f"student {summary['shift_accuracy']:.3f}, teacher {summary['teacher_shift_accuracy']:.3f}."
    )
    print(f"{summary['verdict']}")
    steps = int(story.distilled.card.provenance["steps"])
    if steps < FEWEST_STEPS:
        print(
            f"warning: the student was trained for {steps} step{'' if steps == 1 else 's'} only, the machine was slow or busy: "
            "the numbers above are not what kdedge can do. What is cached now is reused; run it again, or with --budget 15."
        )
    print(f"Took {summary['seconds']['total'] / 60:.1f} minutes. Report: {report}   Numbers: {run / 'summary.json'}")
    print("\nNext:")
    for command in _next(story):
        print(f"  {command}")
