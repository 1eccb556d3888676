"""How much faster one file is than another on this machine."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.runtime.latency import measure
from kdedge.runtime.session import default_threads, open_session

__all__ = ["Speed", "speedup"]

_REPEATS, _WARMUP, _TIMES = 60, 10, 3


@dataclass(frozen=True)
class Speed:
    """Two files timed in turns.

    Attributes:
        ratio: median time of the first over that of the second; the middle one of up to three measurements.
        before_ms, after_ms: medians of that measurement, milliseconds a run of one image (or of the fixed batch).
        threads: of onnxruntime.
    """

    ratio: float
    before_ms: float
    after_ms: float
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def speedup(before: Path, after: Path, least: float = 0.0, *, repeats: int = _REPEATS) -> Speed:
    """Time two files of the same input in turns, as ``kdedge bench`` does.

    Args:
        least: where the first measurement falls below, two more are made and the middle one counts, lest a busy moment
            decide.
        repeats: timed runs of each file and measurement.
    """
    threads = default_threads()
    runs = {}
    for name, path in (("before", before), ("after", after)):
        session = open_session(path, threads)
        entry = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in entry.shape]
        noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        runs[name] = lambda session=session, feed={entry.name: noise}: session.run(None, feed)
    found: list[Speed] = []
    while len(found) < _TIMES and not (len(found) == 1 and found[0].ratio >= least):
        times = measure(runs, repeats, _WARMUP)
        first, second = times["before"].p50_ms, times["after"].p50_ms
        found.append(Speed(first / second, first, second, threads))
    middle = statistics.median_low([speed.ratio for speed in found])
    return next(speed for speed in found if speed.ratio == middle)
