"""How near a student's activations are to its teacher's."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosine_similarity", "knn_agreement", "mean_absolute_error", "r2_variance_weighted"]

Matrix = NDArray[np.floating]


def r2_variance_weighted(target: Matrix, predicted: Matrix) -> float:
    """Coefficient of determination over (N, D), each dimension weighted by its variance; at most 1.

    That is one minus the residual sum of squares over the total one, both summed over all dimensions, so that dead
    dimensions do not count (the plain average over dimensions is what gave the paper's -4062). 0 if nothing varies.
    """
    target, predicted = np.asarray(target, np.float64), np.asarray(predicted, np.float64)
    total = ((target - target.mean(0)) ** 2).sum()
    return float(1.0 - ((target - predicted) ** 2).sum() / total) if total > 0 else 0.0


def cosine_similarity(target: Matrix, predicted: Matrix) -> float:
    """Mean cosine between the rows of two (N, D) matrices, -1 to 1."""
    target, predicted = np.asarray(target, np.float64), np.asarray(predicted, np.float64)
    lengths = np.linalg.norm(target, axis=1) * np.linalg.norm(predicted, axis=1)
    return float(((target * predicted).sum(1) / np.maximum(lengths, 1e-12)).mean())


def mean_absolute_error(target: Matrix, predicted: Matrix) -> float:
    """Mean absolute difference over (N, D), in the targets' unit."""
    return float(np.abs(np.asarray(target, np.float64) - np.asarray(predicted, np.float64)).mean())


def knn_agreement(target: Matrix, predicted: Matrix, k: int = 5) -> float:
    """Share (0-1) of each row's ``k`` nearest neighbours by cosine that are the same in both (N, D) matrices."""
    k = min(k, len(target) - 1)
    if k < 1:
        return 0.0
    shared = [set(a) & set(b) for a, b in zip(_neighbours(target, k), _neighbours(predicted, k), strict=True)]
    return sum(map(len, shared)) / (k * len(shared))


def _neighbours(matrix: Matrix, k: int) -> list[list[int]]:
    unit = np.asarray(matrix, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    found: list[list[int]] = np.argpartition(-near, k - 1, axis=1)[:, :k].tolist()
    return found
