import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from kdedge.errors import DataError
from kdedge.training.targets import Standardize


def activations(rows: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(5, 1, (rows, 6)) * np.geomspace(0.01, 100, 6)).astype(np.float32)


def test_mean_0_variance_1_as_scikit_learn_has_it():
    values = activations()
    found = Standardize.fit(values)(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0, dtype=np.float64), 0, atol=1e-4)
    np.testing.assert_allclose(found.var(0, dtype=np.float64), 1, rtol=1e-4)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(values.astype(np.float64)), atol=1e-3)


def test_a_dead_dimension_stays_at_zero():
    values = activations()
    values[:, 2], values[:, 4] = 0.0, 7.0
    fitted = Standardize.fit(values)
    assert (fitted.scale[[2, 4]] == 1).all()
    found = fitted(values)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, [2, 4]], 0, atol=1e-5)


def test_rounding_noise_is_no_signal():
    values = activations()
    values[:, 0] = 1000 + 1e-7 * np.arange(len(values))
    assert Standardize.fit(values).scale[0] == 1.0


def test_other_images_get_the_same_scale():
    values = activations()
    fitted = Standardize.fit(values[:100])
    np.testing.assert_array_equal(fitted(values)[100:], fitted(values[100:]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_are_refused(bad):
    values = activations()
    values[3, 1] = bad
    with pytest.raises(DataError, match="not finite"):
        Standardize.fit(values)


def test_a_teacher_that_sees_nothing_is_refused():
    with pytest.raises(DataError, match="same activations"):
        Standardize.fit(np.full((20, 4), 3.5, np.float32))
    with pytest.raises(DataError, match="same activations"):
        Standardize.fit(np.zeros((20, 4), np.float32))
