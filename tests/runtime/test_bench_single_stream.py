"""The early-stopping bound, against the binomial distribution of scipy and what MLPerf's own program printed."""

import numpy as np
import pytest
from scipy.stats import binom

from kdedge.runtime.bench.single_stream import LEAST_QUERIES, single_stream
from kdedge.runtime.bench.stats import median_difference, median_ratio


@pytest.mark.parametrize(("queries", "discarded"), [(7469, 685), (2048, 172)])
def test_as_published_results_have_it(queries: int, discarded: int) -> None:
    samples = np.random.default_rng(0).permutation(queries).astype(float)
    assert single_stream(samples).bound_ms == queries - 1 - discarded


@pytest.mark.parametrize("queries", [64, 65, 100, 500, 1024, 5000])
def test_the_bound_is_the_tightest_that_holds(queries: int) -> None:
    bound = single_stream(np.arange(queries, dtype=float)).bound_ms
    assert bound is not None
    slower = queries - int(bound)  # how many are at least as slow
    assert binom.cdf(slower, queries, 0.1) <= 0.01 < binom.cdf(slower + 1, queries, 0.1)


def test_few_runs_give_no_bound() -> None:
    found = single_stream(list(range(1, LEAST_QUERIES)))
    assert found.bound_ms is None
    assert found.p90_ms == 57
    assert not found.long_enough
    assert single_stream([1.0] * LEAST_QUERIES).bound_ms == 1.0
    assert single_stream([300_000.0] * 2).long_enough


def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = np.median(np.exp(rng.normal(0.0, 0.1, 200_000)) + rng.normal(0.2, 0.05, 200_000)) - 1.0
    inside = 0
    for _ in range(60):
        a = rng.lognormal(0.0, 0.1, 101)
        b = a + rng.normal(0.2, 0.05, 101)  # the same disturbance, 0.2 more
        middle, low, high = median_difference(a, b)
        assert low <= middle <= high
        inside += low < truth < high
    assert inside >= 50
    ratio, low, high = median_ratio([2.0, 2.2, 1.8] * 20, [1.0, 1.1, 0.9] * 20)
    assert (ratio, low <= 2.0 <= high) == (2.0, True)
    with pytest.raises(ValueError, match="pairs"):
        median_difference([1.0], [1.0, 2.0])
