"""A quick look at what embeddings are worth to few-shot classification: a ridge classifier, fitted in milliseconds."""

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV

from kdedge.errors import DataError

__all__ = ["few_shot_probe"]

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Candidates for the L2 penalty, of embeddings whose variances sum to 1."""


def few_shot_probe(
    train: NDArray[np.floating],
    labels: NDArray[np.integer],
    val: NDArray[np.floating] | None = None,
    val_labels: NDArray[np.integer] | None = None,
) -> float:
    """Accuracy (0-1) of a linear classifier fitted to embeddings (N, D), on others (M, D) or with one left out at a time.

    Least squares to one column a class of +1 and -1, the penalty chosen by the squared error of leaving one out. All
    dimensions share one scale, as in :func:`kdedge.training.finetune.fit_head`: nearly dead ones stay nearly dead. Leaving
    one out is exact and needs one fit: of a linear smoother H, the prediction of a left-out row is
    (y_hat_i - H_ii y_i) / (1 - H_ii) (Allen's PRESS; Hastie, Tibshirani, Friedman 2009, section 7.10). Mean and scale
    are those of all N rows.

    Args:
        labels, val_labels: class numbers, (N,) and (M,); those of ``val`` that never occur in ``labels`` are missed.

    Returns:
        NaN where nothing can be said: fewer than two classes, an embedding that is not finite, or no ``val`` and a class
        with a single image (left out, it cannot be told).

    Raises:
        DataError: embeddings and labels do not match, or there are none.
    """
    _match("training", train, labels)
    if (val is None) != (val_labels is None):
        raise DataError("validation embeddings and labels go together; give both or neither.")
    if val is not None and val_labels is not None:
        _match("validation", val, val_labels)
        if val.shape[1] != train.shape[1]:
            raise DataError(
                f"validation embeddings have {val.shape[1]} dimensions and training ones {train.shape[1]}; use one network."
            )
    present, counts = np.unique(labels, return_counts=True)
    finite = np.isfinite(train).all() and (val is None or np.isfinite(val).all())
    if len(present) < 2 or not finite or (val is None and counts.min() < 2):
        return math.nan

    x = np.asarray(train, np.float64)
    mean = x.mean(0)
    x = x - mean
    scale = max(math.sqrt((x**2).sum() / len(x)), 1e-12)
    x = x / scale
    fitted = RidgeClassifierCV(PENALTIES).fit(x, labels)
    if val is not None:
        return float(fitted.score((np.asarray(val, np.float64) - mean) / scale, val_labels))
    return _left_out(x, np.asarray(labels), present, float(fitted.alpha_))


def _left_out(
    x: NDArray[np.float64], labels: NDArray[np.integer], present: NDArray[np.integer], penalty: float
) -> float:
    """Leave-one-out accuracy of centred embeddings (N, D), the intercept fitted anew each time."""
    target = np.where(labels[:, None] == present, 1.0, -1.0)
    gram = x @ x.T
    smoother = np.linalg.solve(gram + penalty * np.eye(len(x)), gram) + 1.0 / len(x)
    own = np.diag(smoother)[:, None]
    told = (smoother @ target - own * target) / np.maximum(1.0 - own, 1e-12)
    return float((present[told.argmax(1)] == labels).mean())


def _match(part: str, embeddings: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    if embeddings.ndim != 2 or labels.ndim != 1 or len(embeddings) != len(labels) or embeddings.size == 0:
        raise DataError(
            f"{part} embeddings of shape {embeddings.shape} and labels of shape {labels.shape} do not match; "
            "the probe needs (N, D) and (N,), N at least 1."
        )
