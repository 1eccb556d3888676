from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kdedge.export.calibrate import METHODS, Activation, Calibration, _squared_error, choose_range, collect
from kdedge.preprocess import Preprocess
from tests.export.conftest import SIZE


def _seen(values: NDArray[np.floating]) -> Activation:
    single = values.astype(np.float32)
    return Activation(float(single.min()), float(single.max()), single)


def _quantised_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    integers = np.clip(np.round((values - low) / step), 0, 255)
    return float(np.mean((values - (low + integers * step)) ** 2))


HEAVY = np.random.default_rng(1).standard_t(3, 200_000)


def test_minmax_is_exact_and_holds_zero() -> None:
    assert choose_range(Activation(-2.5, 7.0, np.zeros(1, np.float32)), "minmax") == (-2.5, 7.0)
    assert choose_range(Activation(3.0, 7.0, np.zeros(1, np.float32)), "minmax") == (0.0, 7.0)
    assert choose_range(Activation(-3.0, -1.0, np.zeros(1, np.float32)), "minmax") == (-3.0, 0.0)


def test_percentile_leaves_one_value_in_ten_thousand_out() -> None:
    low, high = choose_range(_seen(HEAVY), "percentile")
    outside = np.mean((low > HEAVY) | (high < HEAVY))
    assert outside == pytest.approx(1e-4, rel=0.1)


def test_squared_error_is_that_of_quantised_values() -> None:
    counts, edges = np.histogram(HEAVY, 200_001)
    centres = (edges[:-1] + edges[1:]) / 2
    for low, high in [(-3.0, 4.0), (-10.0, 10.0)]:
        found = _squared_error(counts.astype(float), centres, low, high)
        assert found == pytest.approx(_quantised_error(HEAVY, low, high), rel=1e-3)


def test_mse_beats_every_shrunk_range() -> None:
    values = HEAVY.astype(np.float32).astype(np.float64)
    best = _quantised_error(values, *choose_range(_seen(HEAVY), "mse"))
    for factor in (1.0, 0.8, 0.5, 0.3, 0.2, 0.1):
        assert best <= 1.02 * _quantised_error(values, factor * values.min(), factor * values.max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [np.maximum(HEAVY, 0), HEAVY, -np.abs(HEAVY)])
def test_ranges_lie_inside_what_was_seen(method: Calibration, values: NDArray[np.floating]) -> None:
    seen = _seen(values)
    low, high = choose_range(seen, method)
    assert min(seen.low, 0.0) <= low <= 0.0 <= high <= max(seen.high, 0.0)
    assert high > low


@pytest.mark.parametrize("method", METHODS)
def test_dead_activation_has_an_empty_range(method: Calibration) -> None:
    assert choose_range(Activation(0.0, 0.0, np.zeros(9, np.float32)), method) == (0.0, 0.0)


def test_collect_sees_every_image(small_onnx: Path, pictures: NDArray[np.uint8]) -> None:
    told: list[tuple[int, int]] = []
    preprocess = Preprocess(SIZE)
    seen = collect(small_onnx, pictures, preprocess, lambda done, total: told.append((done, total)))
    pixels = preprocess.normalize(pictures)
    assert (seen["input"].low, seen["input"].high) == (float(pixels.min()), float(pixels.max()))
    assert "logits" in seen
    assert told[-1] == (60, 60)
    assert sorted(told) == told
