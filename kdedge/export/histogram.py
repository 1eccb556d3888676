"""A histogram of any number of values in fixed memory, the same however the values are dealt out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ExportError

__all__ = ["BINS", "Activation", "Histogram"]

BINS = 4096
"""The most bins of a histogram; between half as many and all of them lie in the range of the values and zero."""

_FINEST = -200  # 2 to this power is narrower than any bin that float32 values can need
_LONGEST_SHIFT = 62


@dataclass(frozen=True)
class Activation:
    """What was seen of one tensor.

    Attributes:
        low, high: exact extremes.
        counts: int64, (bins,), of the values or of a sample of them.
        edges: float64, (bins + 1,), evenly spaced; zero is one of them.
        zeros: how many of those counted are exactly zero.
        typical: extremes of an image, averaged over the images; None if they were not told.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    zeros: int = 0
    typical: tuple[float, float] | None = None


class Histogram:
    """Counts of float32 values, and their extremes.

    The bins are as wide as the smallest power of two with which at most ``bins`` of them reach from the lowest value to
    the highest and to zero. When a value outside comes along the width is doubled as often as it takes, and
    neighbouring bins are merged. As bins begin at multiples of their width no value is ever counted in a wrong one: the
    outcome depends on the values alone, not on their order.

    Args:
        name: what the values are, for errors.
    """

    def __init__(self, name: str, bins: int = BINS) -> None:
        self.name = name
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0
        self.counts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._bins = bins
        self._exponent = _FINEST
        self._first = 0  # the first bin begins at this multiple of the width
        self._lows, self._highs, self._images = 0.0, 0.0, 0

    @property
    def edges(self) -> NDArray[np.float64]:
        """float64, (bins + 1,)."""
        return np.arange(self._first, self._first + len(self.counts) + 1, dtype=np.float64) * 2.0**self._exponent

    def cover(self, low: float, high: float) -> None:
        """Take in extremes of values that are not counted.

        Raises:
            ExportError: not finite.
        """
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ExportError(f"{self.name} has values that are no finite numbers; check the network's weights.")
        self.low, self.high = min(self.low, low), max(self.high, high)
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        exponent = max(self._exponent, _exponent(low, high, self._bins))
        first, last = _bin(low, exponent), _bin(high, exponent)
        if (exponent, first, last - first + 1) != (self._exponent, self._first, len(self.counts)):
            old = np.arange(self._first, self._first + len(self.counts))
            counts = np.zeros(last - first + 1, np.int64)
            np.add.at(counts, (old >> min(exponent - self._exponent, _LONGEST_SHIFT)) - first, self.counts)
            self.counts, self._exponent, self._first = counts, exponent, first

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Count ``values``, of any shape.

        Raises:
            ExportError: one of them is not finite.
        """
        if not values.size:
            return
        self.cover(float(values.min()), float(values.max()))
        scaled = np.multiply(values.reshape(-1), math.ldexp(1.0, -self._exponent), dtype=np.float64)
        places = np.floor(scaled, out=scaled).astype(np.int64) - self._first
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.zeros += values.size - int(np.count_nonzero(values))

    def seen(self) -> Activation:
        """What there is to know, as plain arrays."""
        typical = (self._lows / self._images, self._highs / self._images) if self._images else None
        return Activation(self.low, self.high, self.counts.copy(), self.edges, self.zeros, typical)

    def image(self, low: float, high: float) -> None:
        """Take in the extremes of one image."""
        self._lows += low
        self._highs += high
        self._images += 1


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _exponent(low: float, high: float, bins: int) -> int:
    """The smallest power of two as a width with which ``bins`` bins reach from ``low`` to ``high``."""
    if low == high:
        return _FINEST
    exponent = math.frexp((high - low) / bins)[1]  # one less is too fine for certain
    while _bin(high, exponent) - _bin(low, exponent) >= bins:
        exponent += 1
    return exponent
