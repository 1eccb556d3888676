"""How far a difference or a ratio of two medians may be off."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

__all__ = ["median_difference", "median_ratio"]

RESAMPLES = 2000
CHUNK = 2_000_000
"""Samples drawn at a time: 16 MB."""


def median_difference(
    first: Sequence[float], second: Sequence[float], share: float = 0.95
) -> tuple[float, float, float]:
    """Median of ``second`` minus median of ``first``, with a percentile bootstrap over pairs.

    Args:
        first, second: made in pairs, so of the same length: what disturbed one disturbed the other.
        share: of the interval, 0-1.

    Returns:
        The difference, and the two ends of its interval.

    Raises:
        ValueError: they are empty or not of the same length.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs were expected, got {len(first)} and {len(second)} samples.")
    return _interval(first, second, share, "paired")


def median_ratio(first: Sequence[float], second: Sequence[float], share: float = 0.95) -> tuple[float, float, float]:
    """Median of ``first`` over median of ``second``, both resampled on their own; returns as :func:`median_difference`."""
    return _interval(first, second, share, "ratio")


def _interval(
    first: Sequence[float], second: Sequence[float], share: float, kind: Literal["paired", "ratio"]
) -> tuple[float, float, float]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(a) or not len(b):
        raise ValueError("at least one sample of each is needed.")
    rng = np.random.default_rng(0)
    found = []
    step = max(1, CHUNK // max(len(a), len(b)))
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        of_a = rng.integers(0, len(a), (rows, len(a)))
        of_b = of_a if kind == "paired" else rng.integers(0, len(b), (rows, len(b)))
        one, two = np.median(a[of_a], axis=1), np.median(b[of_b], axis=1)
        found.append(two - one if kind == "paired" else one / two)
    low, high = np.quantile(np.concatenate(found), [(1 - share) / 2, (1 + share) / 2])
    middle = np.median(b) - np.median(a) if kind == "paired" else np.median(a) / np.median(b)
    return float(middle), float(low), float(high)
