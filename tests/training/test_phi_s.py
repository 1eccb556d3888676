"""PHI-S (arXiv 2410.01680): even variances, a rotation, and nothing lost."""

import numpy as np
import pytest

from kdedge.errors import DataError, RunError
from kdedge.training.metrics import r2_variance_weighted
from kdedge.training.targets import PhiS, Standardize, targets_named
from kdedge.training.targets.phi_s import equalising_rotation


def activations(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Correlated, with variances over six decades and means far from zero."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) * np.geomspace(1, 1e-3, dim)
    return (rng.normal(size=(rows, dim)) @ mixing + 10 * rng.normal(size=dim)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 12, 100, 128, 320])
def test_every_dimension_has_variance_1_and_the_rotation_is_one(dim):
    values = activations(2 * dim + 10, dim)
    fitted = PhiS.fit(values)
    found = fitted(values).astype(np.float64)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(found.var(0), 1, rtol=2e-3)
    rotation = fitted.rotation.astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-5)


@pytest.mark.parametrize(("rows", "dim"), [(5, 12), (5, 16), (40, 100)])
def test_fewer_images_than_dimensions(rows, dim):
    values = activations(rows, dim)
    found = PhiS.fit(values)(values).astype(np.float64)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.var(0), 1, rtol=1e-3)


@pytest.mark.parametrize("name", ["standardize", "phi-s", "raw"])
def test_targets_can_be_undone(name):
    values, others = activations(60, 12), activations(20, 12, seed=1)
    targets = targets_named(name, values)
    np.testing.assert_allclose(targets.inverse(targets(others)), others, rtol=1e-4, atol=1e-4)


def test_one_scale_keeps_the_proportions_of_distances():
    values = activations(50, 12)
    fitted = PhiS.fit(values)
    found = fitted(values).astype(np.float64)
    for a, b in ((0, 1), (3, 17), (20, 49)):
        before = np.linalg.norm(values[a].astype(np.float64) - values[b])
        assert np.linalg.norm(found[a] - found[b]) * fitted.scale == pytest.approx(before, rel=1e-4)


def test_mean_squared_error_is_1_minus_r2():
    values = activations(400, 12)
    fitted = PhiS.fit(values)
    predicted = fitted(values) + np.random.default_rng(2).normal(0, 0.5, values.shape)
    mse = float(((fitted(values) - predicted) ** 2).mean())
    assert mse == pytest.approx(1 - r2_variance_weighted(values, fitted.inverse(predicted)), rel=1e-3)


@pytest.mark.parametrize("size", [2, 3, 6, 16, 48, 100])
def test_the_diagonal_is_even_to_rounding(size):
    variances = np.geomspace(1e-4, 1e3, size)
    variances[0] = 0.0
    turn = equalising_rotation(variances)
    np.testing.assert_allclose(np.diag((turn * variances) @ turn.T), variances.mean(), rtol=1e-9)
    np.testing.assert_allclose(turn @ turn.T, np.eye(size), atol=1e-12)
    if size > 3:  # spread over all, not handed from one to the next
        assert np.abs(turn).max() < 0.9


def test_refusals():
    with pytest.raises(DataError, match="not finite"):
        PhiS.fit(np.full((4, 3), np.nan))
    for name in ("phi-s", "raw"):
        with pytest.raises(DataError, match="same activations"):
            targets_named(name, np.ones((4, 3), np.float32))
    with pytest.raises(RunError, match="unknown targets 'pca'"):
        targets_named("pca", activations(4, 3))
    assert isinstance(targets_named("standardize", activations(4, 3)), Standardize)
