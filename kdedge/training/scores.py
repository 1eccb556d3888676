"""Scores of a classifier (the paper's S14); scikit-learn computes them."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from kdedge.errors import DataError

__all__ = ["classification_scores"]


def classification_scores(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 in micro and macro average, all 0-1.

    A class that is never predicted has precision 0, one that never occurs has recall 0; both count in the macro average.

    Args:
        labels: (N,), the true class numbers, 0 to ``classes`` - 1.
        predicted: (N,).

    Raises:
        DataError: no labels, two lengths, or a class number out of range.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if len(labels) == 0 or labels.shape != predicted.shape:
        raise DataError(f"{len(labels)} labels and {len(predicted)} predictions cannot be scored.")
    both = np.concatenate([labels, predicted])
    if both.min() < 0 or both.max() >= classes:
        raise DataError(f"class numbers from {both.min()} to {both.max()} were found; expected 0 to {classes - 1}.")
    found = {"accuracy": float(accuracy_score(labels, predicted))}
    for average in ("micro", "macro"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels, predicted, labels=range(classes), average=average, zero_division=0
        )
        found |= {f"precision_{average}": float(precision), f"recall_{average}": float(recall)}
        found[f"f1_{average}"] = float(f1)
    return found
