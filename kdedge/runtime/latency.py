"""Latency of several networks side by side, on a clock that never jumps.

A machine changes its mind while one measures (turbo, heat, neighbours), so the networks take turns in short blocks and
the order is turned round every time: what disturbs one disturbs all. Each block starts with untimed runs, for the
caches and for the threads of the network before, which spin a while after their work is done.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kdedge.errors import ModelError
from kdedge.progress import Progress

__all__ = ["Latency", "measure"]

REST = 0.05
"""Seconds between two networks: the threads of the one before go on spinning for a while and would take its core."""

BLOCK = 20
SETTLE = 10


@dataclass(frozen=True)
class Latency:
    """Times of one network.

    Attributes:
        samples_ms: every timed run, milliseconds, in the order they were made.
        batch: images a run.
    """

    samples_ms: tuple[float, ...]
    batch: int = 1

    def percentile(self, share: float) -> float:
        """The ``share``-th percentile (0-100), milliseconds a run."""
        return float(np.percentile(self.samples_ms, share))

    @property
    def p50_ms(self) -> float:
        """Median, milliseconds a run."""
        return self.percentile(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile, milliseconds a run."""
        return self.percentile(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile, milliseconds a run; with fewer than 100 repeats it is hardly more than the worst."""
        return self.percentile(99)

    @property
    def images_per_s(self) -> float:
        """Images a second over all timed runs."""
        return self.batch * len(self.samples_ms) * 1000.0 / sum(self.samples_ms)


def measure(
    runs: Mapping[str, Callable[[], object]],
    repeats: int = 100,
    warmup: int = 10,
    batch: int = 1,
    progress: Progress | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time callables in turns.

    Args:
        runs: name to a function that runs a network once on ``batch`` images.
        repeats: timed runs of each.
        warmup: untimed runs of each at the beginning.
        batch: images that one call handles.
        progress: called after each block with (timed runs done, timed runs in all).
        clock: nanoseconds, never falling.

    Raises:
        ModelError: fewer than one repeat, or nothing to run.
    """
    if repeats < 1 or not runs:
        raise ModelError(f"repeats is {repeats} for {len(runs)} networks; at least one of each is needed.")
    for run in runs.values():
        for _ in range(warmup):
            run()
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    done = 0
    for start in range(0, repeats, BLOCK):
        for name in order:
            run = runs[name]
            if len(runs) > 1:
                time.sleep(REST)
            for _ in range(min(SETTLE, warmup)):
                run()
            for _ in range(min(BLOCK, repeats - start)):
                before = clock()
                run()
                samples[name].append((clock() - before) / 1e6)
                done += 1
            if progress:
                progress(done, repeats * len(runs))
        order.reverse()
    return {name: Latency(tuple(values), batch) for name, values in samples.items()}
