"""Students that know some of the ten people, and the crops that they have never seen."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdedge.cli.progress import progress_bar
from kdedge.data.folder import LabelledImages, class_folders
from kdedge.data.split import place, split_per_class
from kdedge.export.guard import Limits
from kdedge.export.recipe import ExportOptions
from kdedge.export.sources import export_run
from kdedge.files import cache_dir, write_json
from kdedge.quickstart.material import demo_data, demo_teacher
from kdedge.training.config import DistillConfig
from kdedge.training.distill import distill

__all__ = ["GENERATED", "LABELLED", "VALIDATION", "Split", "condition", "make_split", "prepare", "stranger_splits"]

GENERATED = 1000
"""Generated faces in the transfer set: of nobody in the experiment."""

LABELLED, VALIDATION = 12, 4
"""Crops of each known person that train, and that set the threshold; the others test."""


@dataclass(frozen=True)
class Split:
    """Folders of one experiment.

    Attributes:
        number: which choice of people, and the seed of everything drawn in it.
        known: names of the people the student is trained on.
        train, val, test: class folders of these.
        others: class folders of the people that neither the transfer set nor the labelled images show.
    """

    number: int
    known: tuple[str, ...]
    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    others: LabelledImages
    folder: Path


def stranger_splits(people: tuple[str, ...], trained: int, count: int, seed: int) -> list[tuple[str, ...]]:
    """``count`` random choices of ``trained`` people to train on, no two alike."""
    rng = np.random.default_rng(seed)
    found: list[tuple[str, ...]] = []
    while len(found) < count:
        chosen = tuple(sorted(str(name) for name in rng.choice(people, trained, replace=False)))
        if chosen not in found:
            found.append(chosen)
    return found


def condition(path: Path) -> str:
    """The photograph a crop is from: ``emotions_sheet``, ``amateur_selfie``..."""
    return path.stem.rpartition("-")[0]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def all_people() -> tuple[LabelledImages, Path]:
    """Every crop of the ten people, and the folder of generated faces."""
    folder = cache_dir("benchmarks") / f"people-{GENERATED}"
    if not (folder / "transfer").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        demo_data(folder, GENERATED, 0, progress_bar, _say)
    train, test = (class_folders(folder / part) for part in ("train", "test"))
    paths = [*train.paths, *test.paths]
    labels = [*train.labels, *test.labels]
    order = sorted(range(len(paths)), key=lambda row: (labels[row], paths[row].name))
    people = LabelledImages(tuple(paths[i] for i in order), tuple(labels[i] for i in order), train.classes)
    return people, folder / "transfer"


def make_split(people: LabelledImages, known: tuple[str, ...], number: int, folder: Path) -> Split:
    """Lay the folders of one experiment out; 16 crops a known person are drawn as the quickstart draws them."""
    shutil.rmtree(folder, ignore_errors=True)
    drawn, tested = (set(rows.tolist()) for rows in split_per_class(people, LABELLED + VALIDATION, number))
    among = LabelledImages(
        tuple(people.paths[i] for i in sorted(drawn)), tuple(people.labels[i] for i in sorted(drawn)), people.classes
    )
    training = {among.paths[i] for i in split_per_class(among, LABELLED, number)[0].tolist()}
    for row, (path, label) in enumerate(zip(people.paths, people.labels, strict=True)):
        name = people.classes[label]
        part = "others" if name not in known else "test" if row in tested else "train" if path in training else "val"
        place(path, folder / part / name / path.name, link=True)
    found = {part: class_folders(folder / part) for part in ("train", "val", "test", "others")}
    return Split(number, known, found["train"], found["val"], found["test"], found["others"], folder)


def train(split: Split, transfer: Path, run: Path, steps: int, student: str) -> Path:
    """Distil SFace into a student of the known people and export it, unless ``run`` holds that already: the int8 file."""
    file = run / "student.int8.onnx"
    if not (run / "card.json").is_file():
        config = DistillConfig(
            teacher=f"onnx:{demo_teacher(_say)}",
            student=student,
            out=str(run),
            transfer=str(transfer),
            train=str(split.folder / "train"),
            val=str(split.folder / "val"),
            test=str(split.folder / "test"),
            size=112,
            views=1,
            train_views=20,
            steps=steps,
            batch=32,
            evaluations=2,
            precision="fp32",
            layout="channels_last",
            seed=split.number,
        )
        done = distill(config, resume=(run / "config.toml").is_file(), bars=progress_bar, say=_say)
        write_json(run / "seconds.json", done.seconds)
    if not file.is_file():
        limits = Limits(max_drop=100.0, min_speedup=0.0, min_agreement=0.0, min_cosine=-1.0)  # every student is shown
        export_run(run, ExportOptions(limits=limits, overwrite=True), progress_bar)
    return file


def prepare(folder: Path, trained: int, numbers: Sequence[int], steps: int, student: str) -> list[tuple[Split, Path]]:
    """The experiments of these numbers, each with the int8 file of its student."""
    people, transfer = all_people()
    known = stranger_splits(people.classes, trained, max(numbers) + 1, seed=0)
    made = []
    for number in numbers:
        split = make_split(people, known[number], number, folder / f"split{number}" / "data")
        made.append((split, train(split, transfer, folder / f"split{number}" / "run", steps, student)))
    return made
