"""The most probable classes, against a stable sort of all of them."""

import numpy as np
import pytest

from kdedge.runtime.ranking import best, predictions


@pytest.mark.parametrize("count", [1, 7, 40, 41, 1000])
@pytest.mark.parametrize("top", [1, 3, 5, 2000])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_the_highest_first_and_equal_ones_in_their_order(count: int, top: int, levels: int) -> None:
    rng = np.random.default_rng([count, top, levels])
    row = rng.integers(0, levels, count) / levels
    wanted = sorted(range(count), key=lambda place: (-row[place], place))[:top]
    assert best(row, top) == wanted


def test_nothing_but_zeros_beside_a_few() -> None:
    """A network that ends in a softmax may give more zeros than labels are asked for."""
    row = np.zeros(500)
    row[[400, 20]] = [0.7, 0.3]
    assert best(row, 5) == [400, 20, 0, 1, 2]


def test_scores_count_with_a_threshold_only() -> None:
    rows = np.array([[0.2, 0.8], [0.9, 0.1]])
    one, other = predictions(["a", "b"], ["x", "y"], rows, 2, scores=np.array([0.4, 0.5]), threshold=0.5)
    assert (one.label, one.labels, one.probabilities, one.score) == ("unknown", ("y", "x"), (0.8, 0.2), 0.4)
    assert (other.label, other.unknown, other.score, other.embedding) == ("x", False, 0.5, None)
    (free, _) = predictions(["a", "b"], ["x", "y"], rows, 1, scores=np.array([0.4, 0.5]))
    assert (free.label, free.score, free.unknown) == ("y", None, False)
