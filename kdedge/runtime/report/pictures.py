"""Images inside a report: mistakes, changes of mind between files, examples."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.runtime.evaluate import Scores
from kdedge.runtime.markup import Markup, el, join, number, percent, plain
from kdedge.runtime.report.layout import Summary, section
from kdedge.runtime.report.look import Answers, Look
from kdedge.runtime.run_reader import RunRecord

__all__ = ["Change", "Mistake", "changes", "gallery", "mistakes", "pick_changes", "pick_examples", "pick_mistakes"]

MOST_MISTAKES = 18
MOST_CHANGES = 12
MOST_EXAMPLES = 12
LABELLED, UNLABELLED = "Labelled images", "Images to imitate on"
THUMBNAIL = 144
"""Pixels of a thumbnail's longer side."""
QUALITY = 80
"""Of its JPEG: with at most some sixty thumbnails a page stays below about a megabyte and a half, a quarter of it mostly."""


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


@dataclass(frozen=True)
class Change:
    """An image on which the int8 and the fp32 file disagree.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        int8, fp32: the class that each gave, with its probability, 0-1.
    """

    image: NDArray[np.uint8]
    truth: str
    fp32: tuple[str, float]
    int8: tuple[str, float]


def pick_mistakes(look: Look) -> list[Mistake]:
    """The mistakes of the best file that it was surest of, as it saw them."""
    best, names = look.best, look.found.data.classes
    wrong = np.flatnonzero(best.guesses != look.labels)
    worst = wrong[np.argsort(-best.sure[wrong], kind="stable")][:MOST_MISTAKES].tolist()
    return [
        Mistake(_seen(best, look, i), names[look.labels[i]], names[best.guesses[i]], float(best.sure[i])) for i in worst
    ]


def pick_changes(look: Look) -> list[Change]:
    """Images on which int8 changed fp32's mind, those first that fp32 was surest of."""
    small, whole = look.answers.get("int8"), look.answers.get("fp32")
    if small is None or whole is None:
        return []
    names = look.found.data.classes
    other = np.flatnonzero(small.guesses != whole.guesses)
    first = other[np.argsort(-whole.sure[other], kind="stable")][:MOST_CHANGES].tolist()
    return [
        Change(
            _seen(small, look, i),
            names[look.labels[i]],
            (names[whole.guesses[i]], float(whole.sure[i])),
            (names[small.guesses[i]], float(small.sure[i])),
        )
        for i in first
    ]


def pick_examples(run: RunRecord) -> dict[str, list[NDArray[np.uint8]]]:
    """A few of the images that were trained on, labelled ones apart, as the network saw them; without those that are gone."""
    card = run.best_card
    if card is None:
        return {}
    labelled = [str(folder.resolve()) + "/" for key in ("train", "data") if (folder := run.folder(key))]
    sets: dict[str, list[str]] = {LABELLED: [], UNLABELLED: []}
    for path in run.trained:
        apart = run.kind == "distill" and labelled and not path.startswith(tuple(labelled))
        sets[UNLABELLED if apart else LABELLED].append(path)
    found: dict[str, list[NDArray[np.uint8]]] = {}
    for name, paths in sets.items():
        places = np.unique(np.linspace(0, len(paths) - 1, min(MOST_EXAMPLES, len(paths)), dtype=int)).tolist()
        for place in places:
            with suppress(DataError):
                found.setdefault(name, []).append(card.preprocess.load(paths[place]))
    return found


def _seen(answers: Answers, look: Look, place: int) -> NDArray[np.uint8]:
    return answers.export.card.preprocess.load(look.paths[place])


def mistakes(found: Sequence[Mistake], scores: Scores, noun: str = "test images") -> Markup | None:
    """The mistakes that the network was surest of; None if there are mistakes but none is given."""
    wrong = int(scores.confusion.sum() - np.trace(scores.confusion))
    if not found:
        none = el("p", f"None among {plain(int(scores.confusion.sum()))} {noun}.")
        return section("Mistakes", none) if not wrong else None
    shown = sorted(found, key=lambda one: -one.probability if isfinite(one.probability) else 1.0)[:MOST_MISTAKES]
    cards = []
    for one in shown:
        picture = picture_of(one.image, f"{one.truth} taken for {one.predicted}")
        sure = f", {percent(one.probability, 0)}" if isfinite(one.probability) else ""
        cards.append(el("figure", picture, el("figcaption", el("b", one.predicted), sure, el("br"), f"is {one.truth}")))
    some = "All" if len(shown) == wrong else f"{len(shown)} of the" if wrong >= len(shown) else "Some"
    said = "what the network said and how sure it was, then what it is."
    lead = f"{some} {plain(wrong)} mistakes, the surest first: {said}" if wrong != 1 else f"The one mistake: {said}"
    return section("Mistakes", el("p", lead), el("div", join(cards), class_="thumbs"))


def changes(found: Sequence[Change], count: int) -> Markup | None:
    """Images on which int8 and fp32 disagree.

    Args:
        count: how many there are in all.
    """
    cards = []
    for one in found:
        picture = picture_of(one.image, f"{one.truth}: fp32 says {one.fp32[0]}, int8 says {one.int8[0]}")
        said = (("fp32", one.fp32), ("int8", one.int8))
        lines = [
            part
            for name, (label, sure) in said
            for part in (f"{name} ", el("b", label), f", {percent(sure, 0)}", el("br"))
        ]
        cards.append(el("figure", picture, el("figcaption", *lines, f"is {one.truth}")))
    if not cards:
        return None
    some = "All" if len(cards) == count else f"{len(cards)} of the"
    lead = f"{some} {plain(count)} images on which they answer differently, those first that fp32 was surest of."
    lead = "The one image on which they answer differently." if count == 1 else lead
    return section("Where int8 and fp32 disagree", el("p", lead), el("div", join(cards), class_="thumbs"))


def gallery(sets: Mapping[str, Sequence[NDArray[np.uint8]]], summary: Summary) -> Markup | None:
    """Example images of each set, with how many there are where the summary says so, and one prediction."""
    parts: list[Markup | None] = []
    for name, images in sets.items():
        pictures = [picture_of(image, f"example of {name}") for image in images[:MOST_EXAMPLES]]
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


def picture_of(image: NDArray[np.uint8], alt: str) -> Markup | None:
    """A JPEG inside the page, shrunk to a thumbnail; None for an empty image."""
    height, width = image.shape[:2]
    if not image.size:
        return None
    scale = THUMBNAIL / max(height, width)
    bgr = np.ascontiguousarray(image[..., ::-1])
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        return None
    text = b64encode(data.tobytes()).decode("ascii")
    return el("img", src=f"data:image/jpeg;base64,{text}", alt=alt, width=bgr.shape[1], height=bgr.shape[0])
