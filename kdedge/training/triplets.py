"""Triplets of images: an anchor, a positive of its class, a negative of another."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdedge.errors import DataError

__all__ = ["draw_triplets", "fixed_triplets", "triplet_accuracy", "triplet_loss"]


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """``max(|f(A) - f(P)|^2 - |f(A) - f(N)|^2 + margin, 0)``, mean over the batch (the paper's S4; squared distances).

    Args:
        anchor, positive, negative: embeddings, (B, D).
    """
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    return (near - far + margin).clamp_min(0.0).mean()


def triplet_accuracy(embeddings: NDArray[np.floating], triplets: NDArray[np.int64]) -> float:
    """Share (0-1) of triplets with d(A, P) < d(A, N) (the paper's S4).

    Args:
        embeddings: (N, D).
        triplets: (T, 3), rows of ``embeddings``: anchor, positive, negative.
    """
    anchor, positive, negative = (np.asarray(embeddings, np.float64)[triplets[:, column]] for column in range(3))
    near = np.square(anchor - positive).sum(1)
    far = np.square(anchor - negative).sum(1)
    return float((near < far).mean())


def draw_triplets(
    labels: NDArray[np.integer], anchors: NDArray[np.int64], seed: int, epoch: int = 0
) -> NDArray[np.int64]:
    """A positive and a negative for each anchor, at random; the draw depends on the seed, the epoch and the anchor alone.

    Args:
        labels: (N,), class numbers.
        anchors: (T,), items.

    Returns:
        (T, 3): anchor, positive, negative.

    Raises:
        DataError: a class of an anchor has one image, or there is one class only.
    """
    numbers = np.asarray(labels)
    members = {label: np.flatnonzero(numbers == label) for label in np.unique(numbers).tolist()}
    if len(members) < 2:
        raise DataError("triplets need at least two classes; only one was given.")
    if lonely := [label for label, items in members.items() if len(items) < 2]:
        raise DataError(f"class number {lonely[0]} has one image; a triplet needs two of a class.")
    found = np.empty((len(anchors), 3), np.int64)
    for row, anchor in enumerate(anchors.tolist()):
        rng = np.random.default_rng((seed, epoch, anchor))
        own = members[int(numbers[anchor])]
        rest = own[own != anchor]
        positive = rest[rng.integers(len(rest))]
        others = np.flatnonzero(numbers != numbers[anchor])
        found[row] = anchor, positive, others[rng.integers(len(others))]
    return found


def fixed_triplets(labels: NDArray[np.integer], seed: int, count: int) -> NDArray[np.int64]:
    """The same triplets for every evaluation, (T, 3): at most ``count``.

    Each item is an anchor once, then again while there is room; where there are more items than ``count``, anchors are drawn
    at random.
    """
    numbers = np.asarray(labels, np.int64)
    anchors = np.random.default_rng((seed, 5)).permutation(len(numbers)).astype(np.int64)
    rounds = max(1, count // max(1, len(numbers)))
    return np.concatenate([draw_triplets(numbers, anchors, seed, turn) for turn in range(rounds)])[:count]
