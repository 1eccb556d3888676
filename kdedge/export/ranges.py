"""Which range of an activation the steps of an 8-bit integer should cover, from its histogram."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kdedge.export.histogram import Activation

__all__ = ["METHODS", "Calibration", "Range", "choose_range"]

Calibration = Literal["minmax", "average", "percentile", "entropy", "mse"]
METHODS: tuple[Calibration, ...] = get_args(Calibration)

Range = tuple[float, float]

_OUTSIDE = 1e-4
_NARROWEST = 1 / 16
_ONE_SIDE, _EACH_SIDE = 128, 32  # candidates

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]


def choose_range(seen: Activation, method: Calibration, *, symmetric: bool = False, levels: int = 256) -> Range:
    """The range to quantise, always with zero in it.

    ``minmax`` covers all that was seen, ``average`` what an average image needs (the mean over images of their extremes,
    as in NNCF's default), ``percentile`` all but one value in ten thousand. ``mse`` has the smallest mean
    squared error of rounding and clipping together (Banner et al. 2019, by search instead of a fitted distribution).
    ``entropy`` has the smallest Kullback-Leibler divergence of the rounded values from the clipped ones (Migacz, "8-bit
    Inference with TensorRT", 2017). Both leave zeros out: every grid represents them exactly.

    Args:
        symmetric: choose (-t, t), for integers from ``1 - levels // 2`` to ``levels // 2 - 1``.
        levels: how many integers there are.
    """
    if symmetric:
        high = _choose(_folded(seen), method, levels // 2)[1]
        return -high, high
    return _choose(seen, method, levels)


def _folded(seen: Activation) -> Activation:
    """The histogram of absolute values: they have the same errors on half of a symmetric grid."""
    zero = _zero(seen.edges)
    counts = np.zeros(max(zero, len(seen.counts) - zero), np.int64)
    counts[: len(seen.counts) - zero] += seen.counts[zero:]
    counts[:zero] += seen.counts[:zero][::-1]
    edges = np.arange(len(counts) + 1) * (seen.edges[1] - seen.edges[0])
    typical = (0.0, max(map(abs, seen.typical))) if seen.typical else None
    return Activation(0.0, max(abs(seen.low), abs(seen.high)), counts, edges, seen.zeros, typical)


def _zero(edges: Floats) -> int:
    """The bin that begins at zero."""
    return int(np.searchsorted(edges, 0.0))


def _choose(seen: Activation, method: Calibration, levels: int) -> Range:
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if method == "minmax" or high - low <= 0.0:
        return low, high
    if method == "average":
        least, most = seen.typical or (low, high)
        return max(low, min(least, 0.0)), min(high, max(most, 0.0))
    if method == "percentile":
        return _percentile(seen, low, high)
    counts = seen.counts.astype(np.float64)
    counts[_zero(seen.edges)] -= seen.zeros
    if not counts.any():  # a sample that missed the few values that are not zero
        return low, high
    left, right = _candidates(seen.edges, levels)
    lows, highs = np.maximum(seen.edges[left], low), np.minimum(seen.edges[right], high)
    loss = _squared_errors if method == "mse" else _divergences
    best = int(np.argmin(loss(counts, seen.edges, left, right, *_grids(lows, highs, levels), levels)))
    return float(lows[best]), float(highs[best])


def _percentile(seen: Activation, low: float, high: float) -> Range:
    cumulated = np.concatenate([[0.0], np.cumsum(seen.counts, dtype=np.float64)])
    parts = (_OUTSIDE / 2, 1 - _OUTSIDE / 2) if low < 0 < high else (_OUTSIDE, 1.0) if low < 0 else (0.0, 1 - _OUTSIDE)
    inner = np.interp(np.asarray(parts) * cumulated[-1], cumulated, seen.edges)
    left, right = max(low, min(float(inner[0]), 0.0)), min(high, max(float(inner[1]), 0.0))
    # nearly all values are zero: what little there is else would be lost
    return (left, right) if right - left > seen.edges[1] - seen.edges[0] else (low, high)


def _candidates(edges: Floats, levels: int) -> tuple[Ints, Ints]:
    """Ranges as first bin and bin behind the last, the whole one first, none with fewer bins than levels."""
    zero, bins = _zero(edges), len(edges) - 1
    number = _ONE_SIDE if min(zero, bins - zero) <= 1 else _EACH_SIDE
    shares = np.geomspace(1.0, _NARROWEST, number)
    below, above = (np.unique(np.rint(shares * side).astype(np.int64))[::-1] for side in (zero, bins - zero))
    left, right = (side.reshape(-1) for side in np.meshgrid(zero - below, zero + above, indexing="ij"))
    kept = right - left >= levels
    kept[0] = True
    return left[kept], right[kept]


def _grids(lows: Floats, highs: Floats, levels: int) -> tuple[Floats, Floats]:
    """Scale and zero point of each range: integer q stands for (q - zero point) scales."""
    scales = (highs - lows) / (levels - 1)
    return scales, np.rint(-lows / scales)


def _cuts(edges: Floats, first: Ints, last: Ints, scales: Floats, zeros: Floats, levels: int) -> Ints:
    """Where each level's bins begin and the last level's end: (ranges, levels + 1).

    A bin goes where its centre is rounded to; those before ``first`` and from ``last`` on are left out.
    """
    width = edges[1] - edges[0]
    middles = (np.arange(levels - 1) + 0.5 - zeros[:, None]) * scales[:, None] / width
    cuts = np.ceil(middles - 0.5).astype(np.int64) + _zero(edges)
    cuts = np.clip(cuts, first[:, None], last[:, None])
    return np.concatenate([first[:, None], cuts, last[:, None]], axis=1)


def _sums(values: Floats, cuts: Ints) -> Floats:
    return np.diff(np.concatenate([[0.0], np.cumsum(values)])[cuts], axis=1)


def _squared_errors(
    counts: Floats, edges: Floats, left: Ints, _right: Ints, scales: Floats, zeros: Floats, levels: int
) -> Floats:
    """Mean squared error of each range: the values of a level lie around it, those clipped around the outermost."""
    bins, width = len(counts), edges[1] - edges[0]
    cuts = _cuts(edges, np.zeros_like(left), np.full_like(left, bins), scales, zeros, levels)
    centres = np.arange(bins) + 0.5 - _zero(edges)  # in bins
    at = (np.arange(levels) - zeros[:, None]) * scales[:, None] / width
    squares = _sums(counts * centres**2, cuts) - 2 * at * _sums(counts * centres, cuts) + at**2 * _sums(counts, cuts)
    return np.asarray(squares.sum(axis=1) * (width**2 / counts.sum()))


def _divergences(
    counts: Floats, edges: Floats, left: Ints, right: Ints, scales: Floats, zeros: Floats, levels: int
) -> Floats:
    """KL divergence of each range, in nats.

    P are the counts inside, those outside added to the outermost bins. Q spreads the counts inside of each level evenly
    over those of its bins that are not empty in P. Infinite where Q is zero and P is not.
    """
    cuts = _cuts(edges, left, right, scales, zeros, levels)
    inside, used = _sums(counts, cuts), _sums((counts > 0).astype(np.float64), cuts)
    within, rows, total = inside.sum(axis=1), np.arange(len(left)), counts.sum()
    reference = inside.copy()
    logarithms = np.concatenate([[0.0], np.cumsum(_xlogx(counts))])
    own = logarithms[right] - logarithms[left]
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    for edge, outside in ((left, cumulated[left]), (right - 1, total - cumulated[right])):
        level = np.argmax(cuts[:, 1:] > edge[:, None], axis=1)
        reference[rows, level] += outside
        used[rows, level] += (outside > 0) & (counts[edge] == 0)
        own += _xlogx(counts[edge] + outside) - _xlogx(counts[edge])
    with np.errstate(divide="ignore", invalid="ignore"):
        other = np.where(reference > 0, reference * np.log(inside / used), 0.0).sum(axis=1)
        divergences = (own - other) / total + np.log(within / total)
    return np.where(within > 0, divergences, np.inf)


def _xlogx(values: Floats) -> Floats:
    return values * np.log(np.maximum(values, 1.0))  # counts: 0 or at least 1
