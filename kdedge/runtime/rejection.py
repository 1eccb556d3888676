"""From scores of knownness to a threshold, and from a threshold and prototypes to an answer. NumPy alone.

An image is *known* if its score is at least the threshold. A *stranger* is an image of none of the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError

__all__ = ["Threshold", "accepted", "auroc", "keeping", "mixed", "threshold_for"]

Scores = NDArray[np.floating[Any]] | Sequence[float]


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it does to the images it was set on.

    Attributes:
        threshold: the least score of a known image.
        false_accept: bound on the share of strangers taken for known, 0-1: what was asked for, or more if there were too few
            strangers to hold that.
        known_accept: share of the known images taken for known, 0-1; None without any.
        known, strangers: how many images of each there were.
    """

    threshold: float
    false_accept: float
    known_accept: float | None
    known: int
    strangers: int


def threshold_for(strangers: Scores, known: Scores, false_accept: float) -> Threshold:
    """The least threshold that a new stranger passes with a probability of at most ``false_accept``.

    It lies just above the m-th largest score of n strangers, m the whole part of ``false_accept`` * (n + 1). If the new
    stranger is drawn as the n were, its rank among them is uniform, and it passes with probability m / (n + 1) at most,
    whatever the distribution (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, ch. 2). With fewer
    than 1 / ``false_accept`` - 1 strangers m would be 0; then it is 1, and :attr:`Threshold.false_accept` says what that
    holds: 1 / (n + 1).

    Args:
        strangers: (n,) scores of strangers.
        known: (k,) scores of images of the classes; they are only counted.
        false_accept: above 0, below 1.

    Raises:
        DataError: no stranger, a rate outside 0-1, or a score that is not finite.
    """
    unknown, own = np.sort(np.asarray(strangers, np.float64)), np.asarray(known, np.float64)
    if not 0.0 < false_accept < 1.0:
        raise DataError(f"a false-accept rate of {false_accept:g} cannot be had; give one between 0 and 1.")
    if unknown.ndim != 1 or not unknown.size:
        raise DataError("a threshold needs images of strangers, none were given.")
    if not (np.isfinite(unknown).all() and np.isfinite(own).all()):
        raise DataError("scores that are not finite cannot be compared with a threshold.")
    count = len(unknown)
    rank = max(1, int(np.floor(false_accept * (count + 1) + 1e-9)))  # 0.05 * 20 must be 1
    bound = float(np.nextafter(unknown[-rank], np.inf))
    return Threshold(
        bound,
        max(false_accept, 1 / (count + 1)) if rank == 1 else false_accept,
        accepted(own, bound) if own.size else None,
        len(own),
        count,
    )


def keeping(known: Scores, lost: float) -> float:
    """The greatest threshold that a new known image misses with a probability of at most ``lost``.

    It is the m-th smallest of k scores, m the whole part of ``lost`` * (k + 1), at least 1: see :func:`threshold_for`.

    Args:
        known: (k,) scores, at least one.
        lost: above 0, below 1.
    """
    own = np.sort(np.asarray(known, np.float64))
    return float(own[max(1, int(np.floor(lost * (len(own) + 1) + 1e-9))) - 1])


def accepted(scores: Scores, threshold: float) -> float:
    """Share of the scores, at least one, that reach the threshold."""
    return float((np.asarray(scores, np.float64) >= threshold).mean())


def auroc(known: Scores, strangers: Scores) -> float:
    """Probability that a known image scores above a stranger, ties counted half: the area under the ROC curve.

    By ranks, after Mann and Whitney, Annals of Mathematical Statistics 18, 1947.
    """
    own, unknown = np.asarray(known, np.float64), np.sort(np.asarray(strangers, np.float64))
    if not own.size or not unknown.size:
        raise DataError("a ROC curve needs images of the classes and of strangers.")
    below, up_to = (np.searchsorted(unknown, own, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(unknown)))


def mixed(
    probabilities: NDArray[np.float64], nearest: NDArray[np.float64], enrolled: NDArray[np.float64], sharpness: float
) -> NDArray[np.float64]:
    """Probabilities of the trained classes, which the network's head knows, and of enrolled ones, which it does not.

    The trained classes together, by the best of them, and each enrolled one compete in a softmax of scores; the share of the
    trained ones is then divided among them as the head does. Without an enrolled class nothing changes, to the last bit.

    Args:
        probabilities: (B, C) of the head.
        nearest: (B,) score of the trained class that explains the image best.
        enrolled: (B, E) score of each enrolled class.
        sharpness: of the softmax, above 0.

    Returns:
        (B, C + E), rows that sum to 1.
    """
    if not enrolled.shape[1]:
        return probabilities
    groups = np.concatenate([nearest[:, None], enrolled], axis=1) * sharpness
    shares = np.exp(groups - groups.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return np.concatenate([probabilities * shares[:, :1], shares[:, 1:]], axis=1)
