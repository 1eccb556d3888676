from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from kdedge.export.histogram import Activation, Histogram
from kdedge.export.ranges import METHODS, Calibration, Range, _candidates, choose_range

Floats = NDArray[np.floating]

RNG = np.random.default_rng(1)
HEAVY = RNG.standard_t(3, 200_000).astype(np.float32).astype(np.float64)
SHAPES: dict[str, Floats] = {
    "two sides": HEAVY,
    "after a ReLU": np.maximum(HEAVY, 0),
    "negative": -np.abs(HEAVY),
    "after a SiLU": 3 * HEAVY / (1 + np.exp(-3 * HEAVY)),
    "after a ReLU6": np.clip(3 * HEAVY, 0, 6),
    "normal": RNG.normal(size=200_000),
    "away from zero": RNG.uniform(3, 7, 50_000),
}
shapes = pytest.mark.parametrize("values", SHAPES.values(), ids=list(SHAPES))


def _seen(values: Floats) -> Activation:
    histogram = Histogram("values")
    histogram.add(values.astype(np.float32))
    return histogram.seen()


def _edge(low: float, high: float) -> Activation:
    return Activation(low, high, np.ones(1, np.int64), np.array([0.0, 1.0]))


def _integers(values: Floats, low: float, high: float, symmetric: bool) -> tuple[Floats, float]:
    """ONNX QuantizeLinear: integers about their zero point, and the scale."""
    if symmetric:
        return np.clip(np.rint(values / (high / 127)), -127, 127), high / 127
    scale = (high - low) / 255
    zero_point = np.rint(-low / scale)
    return np.clip(np.rint(values / scale) + zero_point, 0, 255) - zero_point, scale


def _error(values: Floats, low: float, high: float, symmetric: bool = False) -> float:
    integers, scale = _integers(values, low, high, symmetric)
    return float(np.mean((values - integers * scale) ** 2))


def _divergence(seen: Activation, first: int, last: int, low: float, high: float, levels: int = 256) -> float:
    """Migacz (2017), step by step, of bins ``first`` to ``last`` - 1 and a grid from ``low`` to ``high``."""
    zero = int(np.argmin(np.abs(seen.edges)))
    counts = seen.counts.astype(np.float64)
    counts[zero] -= seen.zeros
    reference = counts[first:last].copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    centres = (seen.edges[first:last] + seen.edges[first + 1 : last + 1]) / 2
    scale = (high - low) / (levels - 1)
    zero_point = round(-low / scale)
    level = [min(max(round(centre / scale) + zero_point, 0), levels - 1) for centre in centres]
    quantised = np.zeros(levels)
    members = np.zeros(levels)
    for one, count, whole in zip(level, counts[first:last], reference, strict=True):
        quantised[one] += count
        members[one] += whole > 0
    total, divergence = reference.sum(), 0.0
    inside = counts[first:last].sum()
    for one, whole in zip(level, reference, strict=True):
        if whole > 0:
            spread = quantised[one] / members[one] / inside if inside else 0.0
            divergence += whole / total * np.log(whole / total / spread) if spread > 0 else np.inf
    return float(divergence)


def test_minmax_is_exact_and_holds_zero() -> None:
    assert choose_range(_edge(-2.5, 7.0), "minmax") == (-2.5, 7.0)
    assert choose_range(_edge(3.0, 7.0), "minmax") == (0.0, 7.0)
    assert choose_range(_edge(-3.0, -1.0), "minmax") == (-3.0, 0.0)
    assert choose_range(_edge(-3.0, -1.0), "minmax", symmetric=True) == (-3.0, 3.0)
    assert choose_range(_edge(-3.0, 8.0), "minmax", symmetric=True) == (-8.0, 8.0)


@shapes
def test_percentile_is_that_of_numpy(values: Floats) -> None:
    seen = _seen(values)
    width = seen.edges[1] - seen.edges[0]
    low, high = values.min(), values.max()
    below, above = (5e-5, 1 - 5e-5) if low < 0 < high else (1e-4, 1.0) if low < 0 else (0.0, 1 - 1e-4)
    expected = (min(np.quantile(values, below), 0.0), max(np.quantile(values, above), 0.0))
    # between two values that are further apart than a bin either is right
    slack = [
        width + abs(np.quantile(values, part + 5e-6) - np.quantile(values, part - 5e-6)) if 0 < part < 1 else width
        for part in (below, above)
    ]
    found = choose_range(seen, "percentile")
    assert abs(found[0] - expected[0]) <= slack[0]
    assert abs(found[1] - expected[1]) <= slack[1]
    assert choose_range(seen, "percentile", symmetric=True)[1] == pytest.approx(
        np.quantile(np.abs(values), 1 - 1e-4), abs=2 * max(slack)
    )


def test_percentile_leaves_one_value_in_ten_thousand_out() -> None:
    for symmetric in (False, True):
        low, high = choose_range(_seen(HEAVY), "percentile", symmetric=symmetric)
        assert np.mean((low > HEAVY) | (high < HEAVY)) == pytest.approx(1e-4, rel=0.1)


def test_percentile_keeps_what_little_there_is_beside_zeros() -> None:
    values = np.zeros(100_000)
    values[:3] = (1.0, 2.0, 3.0)
    assert choose_range(_seen(values), "percentile") == (0.0, 3.0)


@shapes
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_the_best_of_all_tried_by_brute_force(values: Floats, symmetric: bool) -> None:
    seen = _seen(values)
    found = choose_range(seen, "mse", symmetric=symmetric)
    best = _error(values, *found, symmetric)
    for left in np.geomspace(1, 0.1, 10):
        for right in np.geomspace(1, 0.1, 10):
            low, high = left * min(seen.low, 0.0), right * max(seen.high, 0.0)
            if symmetric:
                high = left * max(abs(seen.low), abs(seen.high))
                low = -high
            assert best <= 1.02 * _error(values, low, high, symmetric)


@shapes
@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_is_the_least_divergence_of_the_paper(values: Floats, symmetric: bool) -> None:
    seen, levels = _seen(values[::20]), 256
    found = choose_range(seen, "entropy", symmetric=symmetric)
    if symmetric:
        seen, levels = _seen(np.abs(values[::20])), 128
        found = (0.0, found[1])
    lefts, rights = _candidates(seen.edges, levels)
    picked = np.unique(np.linspace(0, len(lefts) - 1, 40, dtype=int))
    tried: dict[Range, float] = {}
    for left, right in zip(lefts[picked], rights[picked], strict=True):
        span = (max(float(seen.edges[left]), min(seen.low, 0)), min(float(seen.edges[right]), max(seen.high, 0)))
        tried[span] = _divergence(seen, left, right, *span, levels)
    first = int(np.searchsorted(seen.edges, found[0], "right")) - 1
    last = len(seen.counts) if found[1] == seen.high else int(np.searchsorted(seen.edges, found[1], "left"))
    assert _divergence(seen, first, max(last, first + 1), *found, levels) <= min(tried.values()) + 1e-9


@pytest.mark.parametrize("name", ["two sides", "normal"])
def test_entropy_is_near_that_of_onnxruntime(name: str) -> None:
    values = SHAPES[name].astype(np.float32)
    collector = HistogramCollector("entropy", True, 2048, 255, 99.99, "same")
    collector.collect({"x": [values]})
    theirs = float(collector.get_entropy_threshold(collector.histogram_dict["x"], 255)[1])
    low, high = choose_range(_seen(values), "entropy", symmetric=True)
    assert low == -high
    assert high == pytest.approx(theirs, rel=0.15)
    if name == "two sides":  # far from the extremes, so that near is no accident
        assert high < 0.5 * np.abs(values).max()


@pytest.mark.parametrize(("method", "most"), [("percentile", 5), ("entropy", 6), ("mse", 39)])
def test_methods_clip_an_outlier(method: Calibration, most: float) -> None:
    seen = _seen(np.concatenate([RNG.normal(size=100_000), [40.0]]))
    low, high = choose_range(seen, method)
    assert high < most
    assert low == pytest.approx(-4.3, abs=1.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
@shapes
def test_ranges_lie_inside_what_was_seen(method: Calibration, values: Floats, symmetric: bool) -> None:
    seen = _seen(values)
    low, high = choose_range(seen, method, symmetric=symmetric)
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= 0.0 <= high
    assert high > low
    if symmetric:
        assert high == -low <= max(abs(seen.low), abs(seen.high))
    else:
        assert min(seen.low, 0.0) <= low
        assert high <= max(seen.high, 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_mirrored_values_have_the_mirrored_range(method: Calibration, symmetric: bool) -> None:
    values = SHAPES["after a SiLU"]
    low, high = choose_range(_seen(values), method, symmetric=symmetric)
    mirrored = choose_range(_seen(-values), method, symmetric=symmetric)
    assert mirrored == pytest.approx((-high, -low), rel=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_unit_does_not_matter(method: Calibration, scale: float) -> None:
    one = choose_range(_seen(HEAVY), method)
    other = choose_range(_seen(HEAVY * scale), method)
    assert other == pytest.approx((one[0] * scale, one[1] * scale), rel=0.1)


Maker = Callable[[], Activation]


def _dead() -> Activation:
    return _seen(np.zeros(9))


def _unseen() -> Activation:
    """All that was counted is zero, the extremes are not."""
    histogram = Histogram("values")
    histogram.add(np.zeros(9, np.float32))
    histogram.cover(-1.0, 2.0)
    return histogram.seen()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("maker", "span"), [(_dead, (0.0, 0.0)), (_unseen, (-1.0, 2.0))])
def test_where_only_zeros_were_counted_the_range_is_all_that_was_seen(
    method: Calibration, maker: Maker, span: Range
) -> None:
    assert choose_range(maker(), method) == span
    widest = max(abs(span[0]), span[1])
    assert choose_range(maker(), method, symmetric=True) == (-widest, widest)


def test_average_is_the_mean_of_the_images_extremes() -> None:
    """And never outside what was seen, nor without zero; on a symmetric grid the larger side counts."""
    seen = Activation(-2.0, 90.0, np.ones(1, np.int64), np.array([0.0, 1.0]), 0, (-0.5, 12.0))
    assert choose_range(seen, "average") == (-0.5, 12.0)
    assert choose_range(seen, "average", symmetric=True) == (-12.0, 12.0)
    positive = Activation(0.5, 3.0, np.ones(1, np.int64), np.array([0.0, 1.0]), 0, (0.7, 2.5))
    assert choose_range(positive, "average") == (0.0, 2.5)
