"""Enrolling a class on the device, and setting a gallery's threshold with true strangers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError, ModelError
from kdedge.files import sha256_of
from kdedge.preprocess import Image
from kdedge.progress import Progress
from kdedge.runtime.calibration import SCORE, Embedded, calibrate
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.gallery import Gallery, fingerprint
from kdedge.runtime.gallery_file import change_gallery
from kdedge.runtime.prototypes import Prototypes
from kdedge.runtime.rejection import auroc, threshold_for

__all__ = ["Enrolment", "Pictured", "calibrate_gallery", "empty_gallery", "enrol", "neighbours"]

BATCH = 8
ODD = 0.25
"""Mean cosine of an image with the others of its class, as a share of the usual one, below which it is named."""


@dataclass(frozen=True)
class Pictured:
    """An image at the network's size, uint8 (S, S, 3), and what to call it."""

    name: str
    image: Image


@dataclass(frozen=True)
class Enrolment:
    """What came of enrolling a class.

    Attributes:
        images: that the class is known from now; ``added`` of these are new, ``repeated`` were given but known already.
        within: mean cosine between two of them; None with one image.
        nearest, similarity: the class most alike, trained or enrolled, and the mean cosine with its images.
        warnings: in words.
    """

    name: str
    images: int
    added: int
    repeated: int
    within: float | None
    nearest: str
    similarity: float
    warnings: tuple[str, ...]


def empty_gallery(classifier: Classifier, digest: str) -> Gallery:
    """A gallery of nobody, for the file with the SHA-256 ``digest``; ModelError if its embeddings cannot be compared."""
    card = classifier.card
    own = classifier.prototypes
    if own is not None:
        return Gallery(digest, card.name, card.labels, own.dim)
    size = card.preprocess.size
    dim = classifier.embeddings(np.zeros((size, size, 3), np.uint8)).shape[1]
    return Gallery(digest, card.name, card.labels, dim)


def enrol(
    classifier: Classifier,
    path: Path,
    name: str,
    pictures: Sequence[Pictured],
    *,
    replace_it: bool = False,
    progress: Progress | None = None,
) -> Enrolment:
    """Add a class, or images to a class, to the gallery file at ``path``, which need not exist.

    Args:
        replace_it: forget what the class had.

    Raises:
        DataError: no picture, a name that cannot be, or a picture of another class.
        ModelError: the model has no prototypes, or the gallery is of another model, damaged or not writable.
    """
    if not pictures:
        raise DataError(f"{name}: no picture to enrol.")
    digest = sha256_of(classifier.path)
    embeddings = _embedded(classifier, [picture.image for picture in pictures], progress)
    marks = [fingerprint(picture.image) for picture in pictures]
    before = 0

    def change(there: Gallery | None) -> Gallery:
        nonlocal before
        gallery = there or empty_gallery(classifier, digest)
        gallery.check(digest, path)
        units = _space(classifier, gallery).units(embeddings)
        kept = gallery.classes.get(name)
        before = 0 if replace_it or kept is None else len(kept.images)
        return gallery.enrolled(name, units, marks, replace_it=replace_it)

    gallery = change_gallery(path, change)
    entry = gallery.classes[name]
    own = _space(classifier, gallery)
    alike = neighbours(gallery, own)[name]
    added = len(entry.images) - before
    units = own.units(embeddings)
    return Enrolment(
        name,
        len(entry.images),
        added,
        len(pictures) - added,
        entry.spread,
        *alike,
        tuple(_warnings(name, gallery, own, units, [picture.name for picture in pictures])),
    )


def neighbours(gallery: Gallery, own: Prototypes) -> dict[str, tuple[str, float]]:
    """For each enrolled class the one most alike, trained or enrolled, with the mean cosine between their images."""
    names = (*gallery.labels, *gallery.classes)
    known = gallery.known()
    alike = known.means @ np.concatenate([own.means, known.means]).T
    rows = np.arange(len(known.counts))
    alike[rows, len(gallery.labels) + rows] = -np.inf
    return {
        name: (names[int(row.argmax())], float(row.max())) for name, row in zip(gallery.classes, alike, strict=True)
    }


def _warnings(
    name: str, gallery: Gallery, own: Prototypes, units: NDArray[np.float64], sources: Sequence[str]
) -> list[str]:
    found = []
    others = replace(gallery, classes={key: entry for key, entry in gallery.classes.items() if key != name})
    ratios = own.judge(units, others.known()).ratios
    names = (*gallery.labels, *others.classes)
    taken = ratios.max(1) > 0  # better explained by that class than by none
    if taken.mean() > 0.5:
        winner = names[int(np.bincount(ratios[taken].argmax(1)).argmax())]
        found.append(
            f"{int(taken.sum())} of {len(units)} images look like a class that is there already, most like {winner!r}"
        )
    entry = gallery.classes[name]
    count = len(entry.images)
    if count > 2:
        rest = (units @ entry.total.astype(np.float64) - 1) / (count - 1)
        for place in np.flatnonzero(rest < ODD * own.rho).tolist():
            found.append(f"{sources[place]} looks unlike the other images of {name!r} (mean cosine {rest[place]:.2f})")
    elif entry.spread is not None and entry.spread < ODD * own.rho:
        found.append(f"the two images of {name!r} look unlike each other (cosine {entry.spread:.2f})")
    if gallery.rejection and name not in gallery.rejection.get("enrolled", ()):
        found.append(
            f"the threshold was set before {name!r} was enrolled; set it again with 'kdedge gallery calibrate'"
        )
    return found


def calibrate_gallery(
    classifier: Classifier,
    path: Path,
    known: Sequence[tuple[str, Image]],
    strangers: Sequence[Image],
    false_accept: float,
    progress: Progress | None = None,
) -> Gallery:
    """Set the threshold of the gallery file at ``path``, which need not exist, with images of people who are not in it.

    A model without prototypes gets them, in the gallery, from ``known``.

    Args:
        known: label, trained or enrolled, and image, fitted; pictures that were enrolled are left out. May be empty.
        strangers: images of none of the classes, fitted; without any, only prototypes are made.

    Raises:
        DataError: nothing given, a label of no class, or a class without an image where prototypes must be made.
        ModelError: see :func:`enrol`.
    """
    digest = sha256_of(classifier.path)
    images = [image for _, image in known] + list(strangers)
    embeddings = _embedded(classifier, images, progress)
    marks = [fingerprint(image) for _, image in known]

    def change(there: Gallery | None) -> Gallery:
        gallery = there or empty_gallery(classifier, digest)
        gallery.check(digest, path)
        labels = (*gallery.labels, *gallery.classes)
        if wrong := sorted({label for label, _ in known} - set(labels)):
            raise DataError(f"{wrong[0]!r} is neither a class of the model nor enrolled.")
        numbers = np.asarray([labels.index(label) for label, _ in known], np.int64)
        rejection: dict[str, Any] = {}
        if classifier.prototypes is None:
            if gallery.classes:
                raise ModelError(f"{path}: new prototypes would make the enrolled classes void; remove these first.")
            mine = np.flatnonzero(numbers < len(gallery.labels))
            made = calibrate(Embedded(embeddings[mine], numbers[mine]), None, len(gallery.labels), seen=False)
            gallery, rejection = replace(gallery, base=made.prototypes), made.rejection
        elif not len(strangers):
            raise DataError("a threshold is set with images of strangers; give them with --unknown DIR.")
        if len(strangers):
            enrolled = {mark for entry in gallery.classes.values() for mark in entry.images}
            own = _space(classifier, gallery)
            scores = own.judge(own.units(embeddings), gallery.known()).scores
            fresh = np.asarray([mark not in enrolled for mark in marks], bool)
            yes, no = scores[: len(known)][fresh], scores[len(known) :]
            rejection = {
                "score": SCORE,
                **vars(threshold_for(no, yes, false_accept)),
                "applied": True,
                "auroc": auroc(yes, no) if len(yes) else None,
                "images": {"known": len(yes), "strangers": len(no)},
                "how": "images of strangers, on the device",
            }
        stamp = {"enrolled": list(gallery.classes), "when": datetime.now(UTC).isoformat(timespec="seconds")}
        return replace(gallery, rejection={**rejection, **stamp} if rejection else {})

    return change_gallery(path, change)


def _space(classifier: Classifier, gallery: Gallery) -> Prototypes:
    own = gallery.base or classifier.prototypes
    if own is None:
        raise ModelError(
            f"{classifier.path}: this file has no prototypes of its classes; export the model again with 'kdedge export', or "
            "make them with 'kdedge gallery calibrate --known DIR'."
        )
    return own


def _embedded(classifier: Classifier, images: Sequence[Image], progress: Progress | None) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(images), BATCH):
        parts.append(classifier.embeddings(list(images[start : start + BATCH])))
        if progress:
            progress(min(start + BATCH, len(images)), len(images))
    if not parts:
        raise DataError("no images were given.")
    return np.concatenate(parts)
