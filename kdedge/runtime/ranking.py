"""From what a network gives to answers: probabilities, and the most probable classes of each image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.runtime.prediction import Prediction

__all__ = ["best", "predictions", "softmax"]

FEW = 8
"""Classes for each one asked for, up to which sorting them all is as fast as finding the highest first."""


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Softmax over the last axis, in float64; rows sum to 1 for logits of any size."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=-1, keepdims=True)
    return wide


def best(row: NDArray[np.float64], top: int) -> list[int]:
    """Places of the ``top`` highest of (C,), the highest first; equal ones in the order of their places."""
    count = len(row)
    if count <= FEW * top:
        return (-row).argsort(kind="stable")[:top].tolist()  # type: ignore[no-any-return]
    least = np.partition(row, count - top)[count - top]
    places = (row >= least).nonzero()[0]
    return places[(-row[places]).argsort(kind="stable")[:top]].tolist()  # type: ignore[no-any-return]


def predictions(
    names: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    top: int,
    *,
    scores: NDArray[np.float64] | None = None,
    threshold: float | None = None,
    embeddings: NDArray[np.float32] | None = None,
) -> list[Prediction]:
    """The answer for each of B images.

    Args:
        names: what the images are called, B.
        labels: C.
        probabilities: (B, C).
        top: how many labels an answer names; no more than there are.
        scores: how known each image looks, (B,); they count only with a ``threshold``, below which an image is unknown.
        embeddings: (B, D), kept in the answers.
    """
    found = []
    for place, row in enumerate(probabilities):
        first = best(row, top)
        score = None if scores is None or threshold is None else float(scores[place])
        found.append(
            Prediction(
                names[place],
                tuple([labels[i] for i in first]),
                tuple(row[first].tolist()),
                unknown=score is not None and threshold is not None and score < threshold,
                score=score,
                embedding=None if embeddings is None else embeddings[place],
            )
        )
    return found
