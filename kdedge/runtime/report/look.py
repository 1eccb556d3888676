"""A run's files on labelled images: what a report says beyond what was recorded."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.data.folder import LabelledImages, class_folders
from kdedge.data.manifest import read_manifest
from kdedge.errors import DataError
from kdedge.preprocess import Image
from kdedge.progress import Progress
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.evaluate import MOST_UNREADABLE, Scores, scores
from kdedge.runtime.run_reader import Export, RunRecord

__all__ = ["Answers", "Found", "Look", "find_images", "look", "runnable", "thin"]

ROLES = {"test": "test", "val": "validation", "train": "training", "data": "training"}
"""Settings of a run that name a folder of labelled images, and what these are to it."""

BATCH = 16


@dataclass(frozen=True)
class Found:
    """Labelled images to look at.

    Attributes:
        name: of their folder or manifest, as a person would give it.
        role: what they are to the run: ``test``, ``validation``, ``training``, or ``given`` where it does not know them.
        of: images there are; ``data`` may hold fewer.
        recorded: whether the run named them, not the caller.
    """

    name: str
    role: str
    data: LabelledImages
    of: int
    recorded: bool


@dataclass(frozen=True)
class Answers:
    """What one file said about N images: class numbers (N,), their probabilities (N,), and the scores of both."""

    export: Export
    guesses: NDArray[np.int64]
    sure: NDArray[np.float64]
    scores: Scores


@dataclass(frozen=True)
class Look:
    """What a run's files said about labelled images.

    Attributes:
        found: where the images come from.
        paths: the N images that could be read; ``labels`` are their class numbers (N,).
        trained: how many of them the network was trained on.
        heldout: how many chose among its weights, or measured it, during training.
        unreadable: (path, reason).
        answers: precision to what that file said, int8 first.
    """

    found: Found
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    trained: int
    heldout: int
    unreadable: tuple[tuple[str, str], ...]
    answers: Mapping[str, Answers]

    @property
    def best(self) -> Answers:
        """What the file said that a device would run."""
        return next(iter(self.answers.values()))

    @property
    def whole(self) -> bool:
        """Whether every image of the run's test set was looked at."""
        return self.found.role == "test" and len(self.paths) == self.found.of


def find_images(run: RunRecord, data: str | Path | None = None, most: int | None = None) -> Found | None:
    """The images to look at: those of ``data``, else the test images that the run recorded, if they are still there.

    Args:
        data: folder with one folder a class.
        most: take no more than these, evenly spaced; None takes all.

    Returns:
        None if no images are given and the run's own are gone, or it had none.

    Raises:
        DataError: the images are not of the run's classes, or there are none.
    """
    card = run.best_card
    if card is None or not card.labels:
        return None
    if data is not None:
        same = Path(data).resolve()
        roles = (role for key, role in ROLES.items() if (known := run.folder(key)) and known.resolve() == same)
        images, name, role, recorded = class_folders(data, card.labels), str(data), next(roles, "given"), False
    elif folder := run.folder("test"):
        images, name, role, recorded = class_folders(folder, card.labels), str(folder), "test", True
    elif manifest := run.folder("manifest"):
        test = read_manifest(manifest).test
        if test is None:
            return None
        if test.classes != card.labels:
            raise DataError(
                f"{manifest}: its classes are not the labels of the run's network; give images with --data DIR."
            )
        images, name, role, recorded = test, f"{manifest}, part test", "test", True
    else:
        return None
    return Found(name, role, thin(images, most), len(images), recorded)


def thin(images: LabelledImages, most: int | None) -> LabelledImages:
    """At most ``most`` of the images, evenly spaced, so that each class keeps its share."""
    if most is None or len(images) <= most:
        return images
    chosen = np.linspace(0, len(images) - 1, most).round().astype(int).tolist()
    return LabelledImages(
        tuple(images.paths[i] for i in chosen), tuple(images.labels[i] for i in chosen), images.classes
    )


def runnable(run: RunRecord) -> dict[str, Export]:
    """Precision to the file that shall speak for it, int8 first: of this machine's target, else of the first there is."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    order = ("arm64", "x86") if arm else ("x86", "arm64")
    targets = sorted(
        {each.card.target for each in run.exports},
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
    return {each.card.precision: each for each in run.exports if each.card.target == targets[0]}


def look(run: RunRecord, found: Found, threads: int | None = None, progress: Progress | None = None) -> Look:
    """Run the exported files on the images; each image is decoded once, unreadable ones are left out and named.

    Args:
        threads: of onnxruntime; None takes the cores there are, at most 4.
        progress: called with (images done, images in all).

    Raises:
        DataError: more than 5 % of the images are unreadable, or the run has no exported file.
    """
    exports = runnable(run)
    if not exports:
        raise DataError(
            f"{run.path}: nothing is exported, so nothing can be evaluated; run 'kdedge export {run.path} --int8'."
        )
    models = {precision: Classifier(each.path, threads, provider="cpu") for precision, each in exports.items()}
    data, total = found.data, len(found.data)
    kept: list[int] = []
    bad: list[tuple[str, str]] = []
    said: dict[str, list[NDArray[np.float64]]] = {precision: [] for precision in models}
    for start in range(0, total, BATCH):
        fitted: list[dict[str, Image]] = []
        for place in range(start, min(start + BATCH, total)):
            try:
                fitted.append(_fit(models, data.paths[place]))
                kept.append(place)
            except DataError as error:
                bad.append((str(data.paths[place]), str(error)))
        for precision, model in models.items() if fitted else ():
            batch = model.card.preprocess.normalize([each[precision] for each in fitted])
            said[precision].append(model.probabilities(batch))
        if progress:
            progress(min(start + BATCH, total), total)
    for model in models.values():
        model.close()
    if len(bad) > MOST_UNREADABLE * total:
        raise DataError(f"{len(bad)} of {total} images are unreadable, above 5 %; the first: {bad[0][1]}")
    labels = np.asarray(data.labels, np.int64)[kept]
    paths = tuple(data.paths[place] for place in kept)
    names = [str(path.resolve()) for path in paths]
    trained, heldout = set(run.trained), set(run.heldout)
    return Look(
        found,
        paths,
        labels,
        sum(name in trained for name in names),
        sum(name in heldout for name in names),
        tuple(bad),
        {p: _answers(exports[p], np.concatenate(parts), labels, data.classes) for p, parts in said.items()},
    )


def _fit(models: Mapping[str, Classifier], path: Path) -> dict[str, Image]:
    """The image as each network takes it; decoded once where they take the same."""
    made: list[tuple[object, Image]] = []
    found = {}
    for precision, model in models.items():
        image = next((image for rule, image in made if rule == model.card.preprocess), None)
        if image is None:
            image = model.load(path)
            made.append((model.card.preprocess, image))
        found[precision] = image
    return found


def _answers(
    export: Export, probabilities: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str]
) -> Answers:
    guesses = probabilities.argmax(1).astype(np.int64)
    sure = probabilities[np.arange(len(guesses)), guesses]
    return Answers(export, guesses, sure, scores(labels, guesses, classes))
