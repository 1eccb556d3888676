import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.histogram import BINS, Activation, Histogram

_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def _of(*parts: NDArray[np.floating], bins: int = BINS) -> Activation:
    histogram = Histogram("values", bins)
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram.seen()


def _assert_same(one: Activation, other: Activation) -> None:
    assert (one.low, one.high, one.zeros) == (other.low, other.high, other.zeros)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.edges, other.edges)


def _growing() -> NDArray[np.float32]:
    """Values whose range grows from 1e-3 to 1e3 on either side, with zeros among them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000) * np.geomspace(1e-3, 1e3, 20_000)
    values[::7] = 0.0
    return values.astype(np.float32)


def test_counts_are_those_of_numpy() -> None:
    for values in (_growing(), np.abs(_growing()), -np.abs(_growing()), _growing() + np.float32(5e3)):
        seen = _of(*np.split(values, 40))
        expected, _ = np.histogram(values.astype(np.float64), seen.edges)
        np.testing.assert_array_equal(seen.counts, expected)
        assert seen.counts.sum() == len(values)
        assert (seen.low, seen.high) == (values.min(), values.max())
        assert seen.zeros == np.sum(values == 0)


def test_result_does_not_depend_on_how_the_values_are_dealt_out() -> None:
    values = _growing()
    whole = _of(values)
    _assert_same(_of(*np.array_split(values, 13)), whole)
    _assert_same(_of(*np.array_split(values[::-1], 200)), whole)
    _assert_same(_of(np.random.default_rng(1).permutation(values).reshape(10, 20, 100)), whole)


@given(st.lists(_FLOATS, min_size=1, max_size=30), st.integers(1, 30), st.integers(2, 20))
def test_any_finite_values_are_all_counted_in_few_bins(values: list[float], parts: int, bins: int) -> None:
    numbers = np.array(values, np.float32)
    seen = _of(*np.array_split(numbers, parts), bins=bins)
    _assert_same(seen, _of(numbers, bins=bins))
    assert len(seen.counts) <= bins
    assert seen.counts.sum() == len(values)
    assert 0.0 in seen.edges
    assert seen.edges[0] <= seen.low
    assert seen.high < seen.edges[-1]
    np.testing.assert_array_equal(seen.counts, np.histogram(numbers.astype(np.float64), seen.edges)[0])


def test_memory_is_bounded_and_well_used() -> None:
    for values in (_growing(), np.abs(_growing()), -np.abs(_growing())):
        seen = _of(*np.array_split(values, 50))
        assert BINS // 2 <= len(seen.counts) <= BINS


def test_covered_extremes_are_not_counted() -> None:
    histogram = Histogram("values")
    histogram.add(np.array([0.5, 0.25], np.float32))
    histogram.cover(-3.0, 9.0)
    seen = histogram.seen()
    assert (seen.low, seen.high, seen.counts.sum()) == (-3.0, 9.0, 2)
    assert seen.edges[0] <= -3.0
    assert seen.edges[-1] > 9.0


def test_zeros_alone_and_nothing_at_all() -> None:
    zeros = _of(np.zeros(5), np.zeros(0))
    assert (zeros.low, zeros.high, zeros.zeros, zeros.counts.tolist()) == (0.0, 0.0, 5, [5])
    assert _of(np.zeros(5), np.array([-8.0, 4.0])).counts.sum() == 7
    assert _of(np.zeros(0)).low == math.inf


def test_what_was_seen_does_not_change_later() -> None:
    histogram = Histogram("values")
    histogram.add(np.array([1.0, 2.0], np.float32))
    before = histogram.seen()
    histogram.add(np.array([1.0, 2.0], np.float32))
    assert before.counts.sum() == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused_by_name(bad: float) -> None:
    histogram = Histogram("tensor relu_3")
    with pytest.raises(ExportError, match="tensor relu_3"):
        histogram.add(np.array([1.0, bad, 2.0], np.float32))
    with pytest.raises(ExportError, match="tensor relu_3"):
        histogram.cover(bad, 1.0)
