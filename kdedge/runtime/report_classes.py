"""What a report shows class by class and image by image: confusion, scores, mistakes, examples."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.runtime.charts import heat_map
from kdedge.runtime.evaluate import ClassScore, Scores
from kdedge.runtime.markup import DASH, SPACE, Markup, el, join, number, percent, plain, table
from kdedge.runtime.report_layout import interval, section

__all__ = ["Mistake", "classes", "gallery", "mistakes"]

MOST_IN_MATRIX = 32
MOST_IN_TABLE = 40
MOST_MISTAKES = 18
MOST_EXAMPLES = 12
THUMBNAIL = 144
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for another class.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        truth: its class.
        predicted: the class it was given.
        probability: of ``predicted``, 0-1.
    """

    image: NDArray[np.uint8]
    truth: str
    predicted: str
    probability: float


def classes(scores: Scores) -> Markup | None:
    """The confusion matrix and the scores of each class."""
    names = [score.name for score in scores.classes]
    if not names:
        return None
    matrix: Markup | None
    if len(names) <= MOST_IN_MATRIX:
        matrix = el("div", heat_map("Confusion matrix", names, scores.confusion), class_="wide", tabindex="0")
        note = "Rows: true class; columns: predicted class. The darker a cell, the larger its share of the row."
    else:
        matrix = _confusions(names, scores.confusion)
        note = f"With {len(names)} classes, only the most frequent confusions are listed."
    order = sorted(range(len(names)), key=lambda i: scores.classes[i].f1)[:MOST_IN_TABLE]
    caption = f"The {MOST_IN_TABLE} classes of {len(names)} with the lowest F1." if len(names) > MOST_IN_TABLE else None
    rows = [_class_row(scores.classes[i], int(scores.confusion[:, i].sum())) for i in sorted(order)]
    macro = scores.macro
    rows.append(
        ("mean (macro)", macro.images, percent(macro.precision), percent(macro.recall), DASH, percent(macro.f1))
    )
    head = ("class", "images", "precision", "recall", f"95{SPACE}% interval", "F1")
    return section(
        "Class by class",
        el("figure", el("h3", "Confusions on the test images"), matrix, el("figcaption", note)) if matrix else None,
        el("h3", "Scores"),
        table(head, rows, caption),
    )


def _class_row(score: ClassScore, claimed: int) -> tuple[object, ...]:
    """A dash where a score has no denominator: a class without images, or one that was never predicted."""
    recall = score.recall if score.images and isfinite(score.recall) else None
    precision = score.precision if claimed and isfinite(score.precision) else None
    f1 = score.f1 if score.images + claimed and isfinite(score.f1) else None
    return (score.name, score.images, percent(precision), percent(recall), interval(recall, score.images), percent(f1))


def _confusions(names: Sequence[str], counts: NDArray[np.int64]) -> Markup | None:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [divmod(int(place), len(names)) for place in worst]
    rows = [(names[i], names[j], int(wrong[i, j]), int(counts[i].sum())) for i, j in pairs if wrong[i, j]]
    return table(("true class", "taken for", "times", "of"), rows) if rows else None


def mistakes(found: Sequence[Mistake], scores: Scores) -> Markup | None:
    """The mistakes that the student was surest of; None if there are mistakes but none is given."""
    wrong = int(scores.confusion.sum() - np.trace(scores.confusion))
    if not found:
        return (
            section("Mistakes", el("p", f"None among {int(scores.confusion.sum())} test images."))
            if not wrong
            else None
        )
    shown = sorted(found, key=lambda one: -one.probability if isfinite(one.probability) else 1.0)[:MOST_MISTAKES]
    cards = []
    for one in shown:
        picture = _image(one.image, f"{one.truth} taken for {one.predicted}")
        sure = f", {percent(one.probability, 0)}" if isfinite(one.probability) else ""
        cards.append(el("figure", picture, el("figcaption", el("b", one.predicted), sure, el("br"), f"is {one.truth}")))
    some = "All" if len(shown) == wrong else f"{len(shown)} of the" if wrong >= len(shown) else "Some"
    lead = f"{some} {wrong} mistakes, the surest first: what the student said and how sure it was, then what it is."
    return section("Mistakes", el("p", lead), el("div", join(cards), class_="thumbs"))


def gallery(sets: Mapping[str, Sequence[NDArray[np.uint8]]], summary: Mapping[str, Any]) -> Markup | None:
    """Example images of each set, with how many there are where the summary says so, and one prediction."""
    parts: list[Markup | None] = []
    for name, images in sets.items():
        pictures = [_image(image, f"example of {name}") for image in images[:MOST_EXAMPLES]]
        if pictures:
            count = number(summary, "images", name)
            head = el("h3", name, f" ({plain(count)} images)" if count is not None else None)
            parts += [head, el("div", join(pictures), class_="thumbs small")]
    return section("The images", *parts, _classified(summary.get("classified")))


def _classified(found: object) -> Markup | None:
    if not isinstance(found, Mapping) or not found.get("label"):
        return None
    sure, truth = number(found, "probability"), found.get("truth")
    said = f" with {percent(sure)}" if sure is not None else ""
    true = f"; it is {truth}" if truth else ""
    image = el("code", found["image"]) if found.get("image") else "one image"
    return el("p", "Try-out of the finished file: ", image, f" was taken for {found['label']}{said}{true}.")


def _image(image: NDArray[np.uint8], alt: str) -> Markup | None:
    """A JPEG inside the page, shrunk to a thumbnail; None for an empty image."""
    height, width = image.shape[:2]
    if not image.size:
        return None
    scale = THUMBNAIL / max(height, width)
    bgr = np.ascontiguousarray(image[..., ::-1])
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        return None
    text = b64encode(data.tobytes()).decode("ascii")
    return el("img", src=f"data:image/jpeg;base64,{text}", alt=alt, width=bgr.shape[1], height=bgr.shape[0])
