import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine as scipy_cosine_distance
from sklearn.metrics import mean_absolute_error as sklearn_mae
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine
from sklearn.neighbors import NearestNeighbors

from kdedge.training.metrics import cosine_similarity, knn_agreement, mean_absolute_error, r2_variance_weighted


def pair(seed: int, rows: int = 60, columns: int = 12, noise: float = 0.7):
    """Targets whose dimensions differ in scale, one of them dead, and a noisy copy."""
    rng = np.random.default_rng(seed)
    target = rng.normal(2, 1, (rows, columns)) * np.geomspace(0.01, 30, columns)
    target[:, 3] = 1.5
    predicted = target + noise * target.std(0) * rng.normal(0, 1, target.shape) + 0.01
    return target.astype(np.float32), predicted.astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.0, 0.7, 4.0])
def test_r2_is_that_of_scikit_learn(seed, noise):
    target, predicted = pair(seed, noise=noise)
    # scikit-learn leaves a dead dimension out, weight 0; here its residuals count: take it out for the comparison
    alive = target.std(0) > 0
    target, predicted = target[:, alive], predicted[:, alive]
    wanted = r2_score(target.astype(np.float64), predicted.astype(np.float64), multioutput="variance_weighted")
    assert r2_variance_weighted(target, predicted) == pytest.approx(wanted, rel=1e-9)


def test_r2_of_the_mean_is_zero_and_of_the_truth_one():
    target, _ = pair(0)
    assert r2_variance_weighted(target, target) == 1.0
    mean = np.broadcast_to(target.mean(0, dtype=np.float64), target.shape)
    assert r2_variance_weighted(target, mean) == pytest.approx(0.0, abs=1e-9)
    assert r2_variance_weighted(target, -50 * target) < 0
    assert r2_variance_weighted(np.ones((5, 3)), np.zeros((5, 3))) == 0.0


def test_nearly_dead_dimensions_do_not_spoil_r2():
    """The plain average over dimensions, which the paper took, does not forgive them."""
    rng = np.random.default_rng(0)
    target = rng.normal(0, 1, (100, 10))
    target[:, 5:] *= 1e-4
    predicted = target + 0.01 * rng.normal(0, 1, target.shape)
    assert r2_variance_weighted(target, predicted) > 0.99
    assert r2_score(target, predicted) < -1000


@pytest.mark.parametrize("seed", range(3))
def test_cosine_is_that_of_scipy_and_scikit_learn(seed):
    target, predicted = pair(seed)
    wanted = np.mean([1 - scipy_cosine_distance(a, b) for a, b in zip(target, predicted, strict=True)])
    assert cosine_similarity(target, predicted) == pytest.approx(wanted, abs=1e-6)
    assert cosine_similarity(target, predicted) == pytest.approx(
        np.diag(sklearn_cosine(target.astype(float), predicted.astype(float))).mean(), abs=1e-9
    )


def test_cosine_does_not_know_length():
    target, predicted = pair(1)
    scale = np.random.default_rng(0).uniform(0.1, 9, (len(target), 1))
    assert cosine_similarity(target, predicted * scale) == pytest.approx(cosine_similarity(target, predicted))
    assert cosine_similarity(target, -target) == pytest.approx(-1)
    assert cosine_similarity(target, np.zeros_like(target)) == 0.0


@pytest.mark.parametrize("k", [1, 5, 17])
@pytest.mark.parametrize("seed", range(3))
def test_knn_is_that_of_scikit_learn(seed, k):
    target, predicted = pair(seed)
    near = [
        NearestNeighbors(n_neighbors=k, metric="cosine").fit(x.astype(float)).kneighbors(return_distance=False)
        for x in (target, predicted)
    ]
    wanted = np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)])
    assert 0 < wanted < 1
    assert knn_agreement(target, predicted, k) == pytest.approx(wanted)


def test_knn_does_not_know_rotation_or_length():
    target, predicted = pair(2)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))
    assert knn_agreement(target, target) == 1.0
    assert knn_agreement(target, 3 * target @ turn) == 1.0
    assert knn_agreement(target, predicted) == knn_agreement(predicted, target)


@pytest.mark.parametrize(("rows", "wanted"), [(1, 0.0), (2, 1.0), (4, 1.0)])
def test_knn_of_few_rows(rows, wanted):
    """With fewer rows than neighbours wanted, all the others are neighbours."""
    target, predicted = pair(0, rows=rows)
    assert knn_agreement(target, predicted, 5) == wanted


def test_mean_absolute_error_is_that_of_scikit_learn():
    target, predicted = pair(0)
    assert mean_absolute_error(target, predicted) == pytest.approx(sklearn_mae(target, predicted), rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 8), st.floats(0, 100))
def test_ranges(seed, rows, columns, noise):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(rows, columns))
    predicted = target + noise * rng.normal(size=target.shape)
    assert r2_variance_weighted(target, predicted) <= 1.0
    assert -1.0 - 1e-9 <= cosine_similarity(target, predicted) <= 1.0 + 1e-9
    assert 0.0 <= knn_agreement(target, predicted) <= 1.0
