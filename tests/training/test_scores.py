import numpy as np
import pytest

from kdedge.errors import DataError
from kdedge.training.scores import classification_scores


def by_hand(labels, predicted, classes):
    precision, recall, f1 = [], [], []
    for c in range(classes):
        hit = sum(1 for a, b in zip(labels, predicted, strict=True) if a == b == c)
        said, is_ = sum(b == c for b in predicted), sum(a == c for a in labels)
        p, r = (hit / said if said else 0.0), (hit / is_ if is_ else 0.0)
        precision.append(p)
        recall.append(r)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    return np.mean(precision), np.mean(recall), np.mean(f1)


@pytest.mark.parametrize("seed", range(4))
def test_against_counting(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 4, 60), rng.integers(0, 5, 60)  # class 5 never occurs, 4 is never true
    found = classification_scores(labels, predicted, 6)
    precision, recall, f1 = by_hand(labels.tolist(), predicted.tolist(), 6)
    assert found["precision_macro"] == pytest.approx(precision, abs=1e-12)
    assert found["recall_macro"] == pytest.approx(recall, abs=1e-12)
    assert found["f1_macro"] == pytest.approx(f1, abs=1e-12)
    accuracy = float((labels == predicted).mean())
    for name in ("accuracy", "f1_micro", "precision_micro", "recall_micro"):
        assert found[name] == pytest.approx(accuracy, abs=1e-12)


def test_what_cannot_be_scored():
    with pytest.raises(DataError, match="0 labels"):
        classification_scores(np.array([], int), np.array([], int), 2)
    with pytest.raises(DataError, match="expected 0 to 1"):
        classification_scores(np.array([0, 2]), np.array([0, 1]), 2)
