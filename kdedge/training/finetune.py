"""Fitting the last layer on the few labelled images, the trunk frozen (the paper's second step, S11)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from kdedge.errors import DataError

__all__ = ["LinearHead", "fit_head"]

STRENGTHS = (0.01, 0.1, 1.0)  # C of scikit-learn: inverse of the L2 penalty


@dataclass(frozen=True)
class LinearHead:
    """``logits = x @ weight.T + bias``.

    Attributes:
        weight: float32, (C, D).
        bias: float32, (C,).
        strength: the inverse L2 penalty that cross-validation chose.
        validation_accuracy: 0-1, of that choice, on images left out of the fit.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    validation_accuracy: float

    def predict(self, embeddings: NDArray[np.floating]) -> NDArray[np.int64]:
        """Class numbers of embeddings (N, D)."""
        return np.asarray((embeddings @ self.weight.T + self.bias).argmax(1), np.int64)


def fit_head(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.integer],
    classes: int,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> LinearHead:
    """Multinomial logistic regression (L-BFGS) on centred and scaled embeddings; both are folded into the weights.

    The penalty is chosen by cross-validation over whole images: views of one image never stand on both sides.

    Args:
        embeddings: (N, D), one row a view.
        labels: (N,), 0 to ``classes`` - 1.
        groups: (N,), the image each row is a view of.

    Raises:
        DataError: a class without an image.
    """
    x = np.asarray(embeddings, np.float64)
    present = np.unique(labels)
    if len(present) != classes:
        missing = sorted(set(range(classes)) - set(present.tolist()))
        raise DataError(f"class number {missing[0]} has no labelled image to fit the head on.")
    # One scale for all dimensions: dividing each by its own deviation would give nearly dead ones weights so large that the
    # steps of int8 activations drown the logits (97 % in fp32 became 50 %), and cross-validation likes it less, too.
    mean, scale = x.mean(0), max(float(np.sqrt(x.var(0).mean())), 1e-12)
    z = ((x - mean) / scale).astype(np.float32)
    fewest = min(len(np.unique(groups[labels == label])) for label in present)
    scores = dict.fromkeys(strengths, float("nan"))
    if fewest >= 2:
        folds = StratifiedGroupKFold(min(4, fewest), shuffle=True, random_state=seed)
        parts = list(folds.split(z, labels, groups))
        for strength in strengths:
            hits = [float(_logistic(z[a], labels[a], strength).score(z[b], labels[b])) for a, b in parts]
            scores[strength] = float(np.mean(hits))
        best = max(strengths, key=lambda strength: scores[strength])
    else:
        best = strengths[len(strengths) // 2]
    model = _logistic(z, labels, best)
    weight, bias = model.coef_, model.intercept_
    if classes == 2:  # scikit-learn keeps one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    bias = bias - weight @ mean
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), best, scores[best])


def _logistic(x: NDArray[np.floating], labels: NDArray[np.integer], strength: float) -> LogisticRegression:
    # one thread: the matrices are small, and BLAS threads that wait for one another on a busy machine made this 12x slower
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(x, labels)
