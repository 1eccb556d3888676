"""Nearest class mean as a linear layer: how an embedding that was trained without a classifier gets one."""

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.training.finetune import LinearHead

__all__ = ["prototype_head"]


def prototype_head(embeddings: NDArray[np.floating], labels: NDArray[np.integer], classes: int) -> LinearHead:
    """Logits ``-|x - mean_c|^2`` up to a term that is the same for all classes (Snell et al., arXiv 1703.05175, equation 8).

    Args:
        embeddings: (N, D).
        labels: (N,), 0 to ``classes`` - 1.

    Raises:
        DataError: a class without an image.
    """
    x, numbers = np.asarray(embeddings, np.float64), np.asarray(labels)
    counts = np.bincount(numbers, minlength=classes)
    if (counts == 0).any():
        raise DataError(f"class number {int(np.flatnonzero(counts == 0)[0])} has no labelled image to stand for it.")
    means = np.stack([x[numbers == label].mean(0) for label in range(classes)])
    weight, bias = 2.0 * means, -np.square(means).sum(1)
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), float("nan"), float("nan"))
