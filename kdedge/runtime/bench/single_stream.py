"""The figure that MLPerf Inference takes for one camera: the 90th percentile of a single stream, and a bound on it.

In the single-stream scenario the next image comes as soon as the last is done, as here. The rules (MLCommons, inference
policies, version 2 and later) ask for 600 seconds and report an early-stopping estimate: an order statistic so high that,
with 99 % confidence, 90 % of all runs are faster. What is measured here in less time is in the style of MLPerf, not an
MLPerf result: networks and data are others, and nobody has reviewed it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, lgamma, log, log1p
from typing import Any

__all__ = ["LEAST_QUERIES", "RULE_SECONDS", "SingleStream", "single_stream"]

SHARE, CONFIDENCE = 0.9, 0.99

RULE_SECONDS = 600.0
"""Length of a run by the rules."""

LEAST_QUERIES = 64
"""Runs below which no order statistic reaches the confidence."""


@dataclass(frozen=True)
class SingleStream:
    """The 90th percentile of a stream of single runs.

    Attributes:
        p90_ms: the sample at nine tenths of the sorted ones, milliseconds.
        bound_ms: the early-stopping estimate, milliseconds: at least nine tenths of all runs are faster, with 99 %
            confidence; None for fewer than :data:`LEAST_QUERIES` runs.
        queries: runs.
        seconds: their length together.
        long_enough: whether that is as long as the rules ask.
    """

    p90_ms: float
    bound_ms: float | None
    queries: int
    seconds: float
    long_enough: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def single_stream(samples_ms: Sequence[float]) -> SingleStream:
    """Judge the times of runs that followed one another, milliseconds, at least one."""
    ordered, count = sorted(samples_ms), len(samples_ms)
    slower = _slower(count)
    bound = ordered[count - slower] if slower else None
    seconds = sum(samples_ms) / 1000.0
    return SingleStream(ordered[int(count * SHARE)], bound, count, seconds, seconds >= RULE_SECONDS)


def _slower(count: int) -> int:
    """The largest t for which at most t of ``count`` slow runs are so few that, at a share of slow ones of 1 - SHARE, they
    would come up with a probability of no more than 1 - CONFIDENCE; 0 if there is none.
    """
    total, slower = 0.0, 0
    for t in range(count):
        total += exp(
            lgamma(count + 1) - lgamma(t + 1) - lgamma(count - t + 1) + t * log1p(-SHARE) + (count - t) * log(SHARE)
        )
        if total > 1.0 - CONFIDENCE:
            break
        slower = t
    return slower
