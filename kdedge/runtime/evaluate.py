"""Scores of a classifier on labelled images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.data.folder import LabelledImages
from kdedge.errors import DataError
from kdedge.preprocess import Image
from kdedge.progress import Progress
from kdedge.runtime.classifier import Classifier

__all__ = ["ClassScore", "Evaluation", "Scores", "evaluate", "scores"]

MOST_UNREADABLE = 0.05
"""Share of unreadable images above which scores would mean little."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, or an average of several, 0-1; 0 where a denominator is 0.

    Attributes:
        name: class name, or ``micro`` or ``macro``.
        images: images whose true class it is.
    """

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Scores:
    """What a set of predictions is worth.

    Attributes:
        accuracy: share of right predictions.
        micro: counts pooled over the classes; with one label an image all three equal the accuracy.
        macro: mean over the classes that occur among labels or predictions (scikit-learn's default).
        classes: one entry a class, in the order of the model's labels, also for those that do not occur.
        confusion: int64 (C, C); row: true class, column: predicted class.
    """

    accuracy: float
    micro: ClassScore
    macro: ClassScore
    classes: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "accuracy": self.accuracy,
            "micro": asdict(self.micro),
            "macro": asdict(self.macro),
            "classes": [asdict(score) for score in self.classes],
            "confusion": self.confusion.tolist(),
        }


def scores(
    labels: Sequence[int] | NDArray[np.integer[Any]],
    predictions: Sequence[int] | NDArray[np.integer[Any]],
    classes: Sequence[str],
) -> Scores:
    """Score predicted class numbers against true ones.

    Args:
        labels: (N,) true class numbers, 0 to C - 1.
        predictions: (N,) predicted class numbers.
        classes: (C,) class names.

    Raises:
        DataError: no labels, unequal lengths, or a number outside 0 to C - 1.
    """
    true, guess = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    count = len(classes)
    if true.ndim != 1 or true.shape != guess.shape or not true.size:
        raise DataError(f"expected as many predictions as labels, at least one; got {guess.shape} for {true.shape}.")
    if min(true.min(), guess.min()) < 0 or max(true.max(), guess.max()) >= count:
        raise DataError(f"class numbers must lie between 0 and {count - 1}.")
    confusion = np.bincount(true * count + guess, minlength=count * count).reshape(count, count).astype(np.int64)
    hits, actual, claimed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall = _ratio(hits, claimed), _ratio(hits, actual)
    f1 = _ratio(2 * hits, actual + claimed)
    occurs = (actual + claimed) > 0
    accuracy = float(hits.sum() / true.size)
    return Scores(
        accuracy=accuracy,
        micro=ClassScore("micro", accuracy, accuracy, accuracy, true.size),
        macro=ClassScore(
            "macro",
            float(precision[occurs].mean()),
            float(recall[occurs].mean()),
            float(f1[occurs].mean()),
            true.size,
        ),
        classes=tuple(
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(actual[i]))
            for i, name in enumerate(classes)
        ),
        confusion=confusion,
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


@dataclass(frozen=True)
class Evaluation:
    """Scores, and the images that could not be read: (path, reason)."""

    scores: Scores
    images: int
    unreadable: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        bad = [{"image": path, "reason": reason} for path, reason in self.unreadable]
        return {"images": self.images, "unreadable": bad, **self.scores.to_dict()}


def evaluate(
    classifier: Classifier,
    data: LabelledImages,
    batch: int = 16,
    progress: Progress | None = None,
) -> Evaluation:
    """Classify labelled images and score the result; unreadable ones are left out and named.

    Args:
        classifier: its card's labels must be ``data.classes``, in that order.
        data: the images.
        batch: images that go through the network at once.
        progress: called with (images done, images in all).

    Raises:
        DataError: other classes, or more than 5 % of the images are unreadable.
    """
    if data.classes != classifier.card.labels:
        raise DataError(
            "the classes of the images are not the labels of the model; read them with classes=card.labels."
        )
    labels: list[int] = []
    guesses: list[int] = []
    bad: list[tuple[str, str]] = []
    for start in range(0, len(data), batch):
        fitted: list[Image] = []
        for path, label in zip(data.paths[start : start + batch], data.labels[start : start + batch], strict=True):
            try:
                fitted.append(classifier.load(path))
                labels.append(label)
            except DataError as error:
                bad.append((str(path), str(error)))
        if fitted:
            logits = classifier.logits(classifier.card.preprocess.normalize(fitted))
            guesses += logits.argmax(1).tolist()
        if progress:
            progress(min(start + batch, len(data)), len(data))
    if len(bad) > MOST_UNREADABLE * len(data):
        raise DataError(f"{len(bad)} of {len(data)} images are unreadable, above 5 %; the first: {bad[0][1]}")
    return Evaluation(scores(labels, guesses, data.classes), len(guesses), tuple(bad))
