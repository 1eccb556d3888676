"""Losses and targets beside each other, on two data sets, through the product's own call; validation images decide.

Each folder holds transfer/ (unlabelled), train/CLASS and val/CLASS; test images are never looked at. What is finished is
kept: run it again with more combinations or seeds, and only the new ones are trained.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from kdedge.files import write_json

COMBINATIONS = (
    "mse:standardize",
    "mse:phi-s",
    "mse+cosine:standardize",
    "mse+cosine:phi-s",
    "smoothl1+cosine:standardize",
    "mse+relational:standardize",
    "srd:standardize",
    "bce:standardize",
)
FIGURES = ("r2", "cosine", "knn", "accuracy")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--faces", type=Path, help="folder of aligned faces")
    options.add_argument(
        "--faces-teacher", help="as of kdedge distill, e.g. onnx:sface.onnx (mean 0, deviation 1, RGB)"
    )
    options.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    options.add_argument("--cifar10-teacher", help="as of kdedge distill, e.g. run:runs/cifar10/teacher")
    options.add_argument("--combinations", nargs="+", default=list(COMBINATIONS), help="loss:targets")
    options.add_argument("--student", default="timm/mobilenetv4_conv_small", help="family/name")
    options.add_argument("--student-weights", default="random", help="auto, pretrained, random or a file")
    options.add_argument("--steps", type=int, default=800, help="of each training")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of each combination")
    options.add_argument("--runs", type=Path, default=Path("runs/losses"), help="folder of the run directories")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Train what is missing, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    sets = [name for name in ("faces", "cifar10") if getattr(given, name)]
    if not sets or any(not getattr(given, f"{name}_teacher") for name in sets):
        parser().error("give --faces DIR with --faces-teacher, --cifar10 DIR with --cifar10-teacher, or both.")
    cells = [
        cell(given, name, combination, seed)
        for seed in given.seeds
        for combination in given.combinations
        for name in sets
    ]
    known = all_conditions()
    settings = {"student": given.student, "student_weights": given.student_weights, "steps": given.steps}
    data = {"cells": cells, "seeds": given.seeds, **settings, "conditions": known}
    return write_results(given.results, f"losses-{slug(known)}", data, markdown(data))


def cell(given: argparse.Namespace, name: str, combination: str, seed: int) -> dict[str, Any]:
    """Scores of one training; a finished one is not run again."""
    from kdedge.cli.progress import progress_bar
    from kdedge.training.augment import Augment
    from kdedge.training.config import DistillConfig
    from kdedge.training.distill import distill

    loss, targets = combination.split(":")
    out = given.runs / f"{name}-{loss}-{targets}-{given.steps}-seed{seed}"
    file = out / "cell.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    folder, faces = getattr(given, name), name == "faces"
    config = DistillConfig(
        teacher=getattr(given, f"{name}_teacher"),
        student=given.student,
        out=str(out),
        transfer=str(folder / "transfer"),
        train=str(folder / "train"),
        val=str(folder / "val"),
        loss=loss,
        targets=targets,
        steps=given.steps,
        size=112 if faces else 64,
        views=2 if faces else 1,
        train_views=20 if faces else 4,
        augment=Augment() if faces else Augment.light(),
        student_weights=given.student_weights,
        teacher_mean=(0.0, 0.0, 0.0) if faces else None,
        teacher_std=(1.0, 1.0, 1.0) if faces else None,
        precision="fp32",  # the same for all
        teacher_precision="fp32",
        layout="channels_last",
        evaluations=2,
        seed=seed,
    )
    print(f"{name}, {loss} on {targets}, seed {seed}", file=sys.stderr, flush=True)
    resume = (out / "config.toml").is_file()
    done = distill(config, resume=resume, bars=progress_bar, say=lambda line: print(line, file=sys.stderr, flush=True))
    scores = {key: done.scores[f"heldout_{key}"] for key in ("r2", "cosine", "knn")}
    found = {
        "data": name,
        "combination": combination,
        "seed": seed,
        **scores,
        "accuracy": done.scores["val_accuracy"],
        "teacher_accuracy": done.scores["teacher_val_accuracy"],
        "views": len(done.rows),
        "images_per_s": done.images_per_s,
    }
    write_json(file, found)
    return found


def ranking(cells: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Combinations by mean validation accuracy over data sets and seeds, best first."""
    names = dict.fromkeys(found["combination"] for found in cells)
    sets = sorted({found["data"] for found in cells})
    means = {name: statistics.fmean(figure(cells, name, each, "accuracy")[0] for each in sets) for name in names}
    return sorted(means.items(), key=lambda item: -item[1])


def figure(cells: list[dict[str, Any]], combination: str, data: str, name: str) -> tuple[float, float]:
    """Mean and deviation over seeds."""
    values = [found[name] for found in cells if (found["combination"], found["data"]) == (combination, data)]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    cells = data["cells"]
    sets = sorted({found["data"] for found in cells}, reverse=True)
    head = [
        "loss",
        "targets",
        *[f"{each}: {name}" for each in sets for name in ("R2", "cosine", "k-NN", "accuracy")],
        "mean",
    ]
    rows = []
    for combination, mean in ranking(cells):
        row = combination.split(":")
        for each in sets:
            for name in FIGURES:
                middle, spread = figure(cells, combination, each, name)
                row.append(f"{middle:.3f} ± {spread:.3f}" if name == "accuracy" else f"{middle:.3f}")
        rows.append([*row, f"{mean:.3f}"])
    teachers = "; ".join(
        f"{each}: {statistics.fmean(c['teacher_accuracy'] for c in cells if c['data'] == each):.3f}" for each in sets
    )
    return (
        f"# Losses and targets\n\n{markdown_table(head, rows)}\n"
        f"{data['student']} from {data['student_weights']} weights, {data['steps']} steps of 32 views each, seeds "
        f"{', '.join(map(str, data['seeds']))}; accuracy of a head on few labels, on validation images (the teacher's own: "
        f"{teachers}). R2, cosine and k-NN agreement are of held-out images and of standardised activations, whatever the "
        f"targets were. Sorted by the mean accuracy of the data sets.\n\n{conditions_line(data['conditions'])}\n"
    )


if __name__ == "__main__":
    try:
        print(main())
    except KeyboardInterrupt:
        sys.exit(130)
