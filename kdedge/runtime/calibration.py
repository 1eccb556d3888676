"""From embeddings of labelled images to prototypes, and to a threshold below which an image is of none of the classes.

Images of strangers are rarely at hand when a model is exported, so each class in turn plays the stranger: everything is
fitted without it, and its images are scored against the others. That flatters: the network was trained on that class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.runtime.prototypes import Prototypes, Vectors, class_means, fit_prototypes, log_ratios, main_directions
from kdedge.runtime.rejection import accepted, auroc, keeping, threshold_for

__all__ = ["LEAST_CLASSES", "LOST", "SCORE", "Calibration", "Embedded", "calibrate"]

SCORE = "cosine with the class that explains the image best"
LEAST_CLASSES = 3
"""Below it, too little is left to compare with when one class plays the stranger."""

LOST = 0.05
"""Share of the known images that the threshold of an export may lose."""

WORST = 0.1
"""False accepts, with classes for strangers, above which that threshold is only applied if asked for."""

DIRECTIONS = (0, 8, 16, 32)
"""How many directions of nuisance are tried; a quarter of all at most."""

SHARPEST = 20.0
"""A network knows the classes it was trained on too well to tell how sure it may be of others."""

FOLDS, GROUPS, SINGLE = 4, 10, 3

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) of labelled images, and their class numbers (N,)."""

    embeddings: Vectors
    labels: Labels

    def only(self, rows: NDArray[Any]) -> "Embedded":
        """Some of them, by number or mask."""
        return Embedded(self.embeddings[rows], self.labels[rows])


@dataclass(frozen=True)
class Calibration:
    """Prototypes, and what a model's card says under ``rejection``; that is empty if it could not be measured."""

    prototypes: Prototypes
    rejection: dict[str, Any]


def calibrate(base: Embedded, held: Embedded | None, classes: int, *, seen: bool = True) -> Calibration:
    """Fit prototypes and measure how well they tell the classes from what is none of them.

    Args:
        base: at least one image of each class; the prototypes are theirs.
        held: other images of the classes, which measure; None lets every fourth image of a class do so in turn, with
            prototypes of the others.
        classes: C, how many there are.
        seen: whether the network was trained on ``base``. Then a threshold measured on it is not applied unasked.

    Raises:
        DataError: a class has no image.
    """
    if missing := sorted(set(range(classes)) - set(np.unique(base.labels).tolist())):
        raise DataError(f"class number {missing[0]} has no image to make a prototype of.")
    parts = list(_folds(base, held, classes))
    directions = main_directions(base.embeddings, base.labels, classes, max(DIRECTIONS))
    if classes < LEAST_CLASSES or not parts:
        return Calibration(fit_prototypes(base.embeddings, base.labels, classes, directions[:0]), {})
    whole = [_Part.of(fitted_on, asked, classes) for fitted_on, asked in parts]
    without = [part for fitted_on, asked in parts for part in _missing_in_turn(fitted_on, asked, classes)]
    room = base.embeddings.shape[1] // 4
    tried = {number: _trial(whole, without, classes, number) for number in DIRECTIONS if number <= room}
    best = max(tried, key=lambda number: (round(tried[number].separation, 3), -number))
    found = tried[best]
    fitted = fit_prototypes(base.embeddings, base.labels, classes, directions[:best])
    bound = keeping(found.known, LOST)
    strange = accepted(found.strangers, bound)
    whose = f"{'training' if seen and held is None else 'held-out'} images"
    turn = "" if held is not None else ", a quarter left out of the prototypes in turn"
    return Calibration(
        replace(fitted, rho=found.rho, sharpness=found.sharpness),
        {
            "score": SCORE,
            "threshold": bound,
            "known_accept": accepted(found.known, bound),
            "false_accept": strange,
            "applied": (held is not None or not seen) and strange <= WORST,
            "auroc": auroc(found.known, found.strangers),
            "images": {"known": len(found.known), "strangers": len(found.strangers)},
            "choices": [vars(threshold_for(found.strangers, found.known, rate)) for rate in (0.01, 0.05, 0.1)],
            "separation": {str(number): round(item.separation, 4) for number, item in tried.items()},
            "how": f"{whose}{turn}; every class in turn played the stranger, which flatters",
        },
    )


def _folds(base: Embedded, held: Embedded | None, classes: int) -> Iterator[tuple[Embedded, Embedded]]:
    """Pairs of what prototypes are made of, of all classes, and what is scored."""
    if held is not None:
        yield base, held
        return
    place = np.zeros(len(base.labels), np.int64)  # of an image among those of its class
    for label in range(classes):
        rows = np.flatnonzero(base.labels == label)
        place[rows] = np.arange(len(rows))
    for fold in range(FOLDS):
        out = place % FOLDS == fold
        if out.any() and len(np.unique(base.labels[~out])) == classes:
            yield base.only(~out), base.only(out)


@dataclass(frozen=True)
class _Part:
    """Images to fit on, of classes 0 to ``classes`` - 1, and to score; directions of nuisance of the former.

    Attributes:
        own: images of the very classes that are scored, to compare them with; not fitted on if these play strangers.
    """

    base: Embedded
    held: Embedded
    own: Embedded
    classes: int
    nuisance: NDArray[np.float64]

    @classmethod
    def of(cls, base: Embedded, held: Embedded, classes: int, own: Embedded | None = None) -> "_Part":
        nuisance = main_directions(base.embeddings, base.labels, classes, max(DIRECTIONS))
        return cls(base, held, own or base, classes, nuisance)

    def fitted(self, directions: int) -> Prototypes:
        return fit_prototypes(self.base.embeddings, self.base.labels, self.classes, self.nuisance[:directions])


def _missing_in_turn(base: Embedded, held: Embedded, classes: int) -> Iterator[_Part]:
    """Each class, or each tenth of many, left out and then scored."""
    for group in np.array_split(np.arange(classes), min(classes, GROUPS)):
        strange = held.only(np.isin(held.labels, group))
        if len(strange.labels):
            stays = np.setdiff1d(np.arange(classes), group)
            mine = base.only(np.isin(base.labels, stays))
            mine = Embedded(mine.embeddings, np.searchsorted(stays, mine.labels))
            yield _Part.of(mine, strange, len(stays), own=base)


@dataclass(frozen=True)
class _Trial:
    """What was found with one number of directions: scores of known images and of those that played strangers."""

    known: NDArray[np.float64]
    strangers: NDArray[np.float64]
    rho: float
    sharpness: float

    @property
    def separation(self) -> float:
        """d': difference of the means of known and strange scores, in units of their root mean variance."""
        spread = np.sqrt((self.known.var() + self.strangers.var()) / 2)
        return float((self.known.mean() - self.strangers.mean()) / max(spread, 1e-9))


def _trial(whole: list[_Part], without: list[_Part], classes: int, directions: int) -> _Trial:
    strange = []
    cosines: list[float] = []
    for part in without:
        fitted = part.fitted(directions)
        units = fitted.units(part.held.embeddings)
        strange.append((fitted, units))
        own = class_means(fitted.units(part.own.embeddings), part.own.labels, classes)
        cosines += (units * own[part.held.labels]).sum(1).tolist()
    rho = float(np.clip(np.mean(cosines), 0.02, 0.98))
    fits = [(replace(part.fitted(directions), rho=rho), part) for part in whole]
    known = [fitted.judge(fitted.units(part.held.embeddings)).scores for fitted, part in fits]
    strangers = [replace(fitted, rho=rho).judge(units).scores for fitted, units in strange]
    return _Trial(np.concatenate(known), np.concatenate(strangers), rho, _sharpness(fits))


def _sharpness(fits: list[tuple[Prototypes, _Part]]) -> float:
    """What makes the true class least surprising where each is known from one image, the hardest case of enrolment.

    The best of a grid, over several draws of that image.
    """
    scores, truth = [], []
    for fitted, part in fits:
        units, asked = fitted.units(part.base.embeddings), fitted.units(part.held.embeddings)
        members = [np.flatnonzero(part.base.labels == label) for label in range(part.classes)]
        for draw in range(SINGLE):
            one = units[[rows[draw * len(rows) // SINGLE] for rows in members]]
            scores.append(log_ratios(asked, one, np.ones(part.classes, np.int64), fitted.rho))
            truth.append(part.held.labels)
    found, right = np.concatenate(scores), np.concatenate(truth)

    def surprise(sharpness: float) -> float:
        wide = found * sharpness
        top = wide.max(1)
        log_sum = np.log(np.exp(wide - top[:, None]).sum(1)) + top
        return float((log_sum - wide[np.arange(len(right)), right]).mean())

    return float(min(np.geomspace(0.5, SHARPEST, 81), key=surprise))
