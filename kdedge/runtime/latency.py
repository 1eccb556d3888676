"""Latency of several networks side by side, on a clock that never jumps.

A machine changes its mind while one measures (turbo, heat, neighbours), so the networks take turns in short blocks and
the order is turned round every time: what disturbs one disturbs all. Each block starts with untimed runs, for the
caches and for the threads of the network before, which spin a while after their work is done.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kdedge.errors import ModelError
from kdedge.progress import Progress

__all__ = ["Latency", "measure"]

REST = 0.05
"""Seconds between two networks: the threads of the one before go on spinning for a while and would take its core."""

BLOCK, BLOCK_SECONDS = 20, 0.5
"""Runs of one block, or seconds where these are more of them."""

SETTLE, LEAST_SETTLE, SETTLE_MS = 10, 2, 100.0
"""Untimed runs before a block: the first number, but no more than the second once the third has passed."""


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
    def mean_ms(self) -> float:
        """Mean, milliseconds a run."""
        return float(np.mean(self.samples_ms))

    @property
    def seconds(self) -> float:
        """Length of all timed runs together, seconds."""
        return sum(self.samples_ms) / 1000.0

    @property
    def images_per_s(self) -> float:
        """Images a second over all timed runs."""
        return self.batch * len(self.samples_ms) * 1000.0 / sum(self.samples_ms)


def measure(
    runs: Mapping[str, Callable[[], object]],
    repeats: int = 100,
    warmup: int = 10,
    batch: int | Mapping[str, int] = 1,
    progress: Progress | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
    min_seconds: float = 0.0,
) -> dict[str, Latency]:
    """Time callables in turns.

    Those that need more runs for ``min_seconds`` get longer blocks, so that all end at the same time and none is left to
    run alone.

    Args:
        runs: name to a function that runs a network once on ``batch`` images.
        repeats: timed runs of each, at least.
        warmup: untimed runs of each at the beginning.
        batch: images that one call handles; of each where they differ.
        progress: called after each block with (timed runs done, timed runs in all).
        clock: nanoseconds, never falling.
        min_seconds: timed seconds of each, at least.

    Raises:
        ModelError: fewer than one repeat, or nothing to run.
    """
    if repeats < 1 or not runs:
        raise ModelError(f"repeats is {repeats} for {len(runs)} networks; at least one of each is needed.")
    wanted = {name: _wanted(run, repeats, warmup, min_seconds, clock) for name, run in runs.items()}
    rounds = math.ceil(min(wanted.values()) / BLOCK)
    if min_seconds:  # tiny networks would spend their time on changing places
        rounds = min(rounds, max(math.ceil(repeats / BLOCK), math.ceil(min_seconds / BLOCK_SECONDS)))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order, turn = list(runs), 0
    while turn < rounds or any(_lacks(samples[name], repeats, min_seconds) for name in runs):
        for name in order:
            block = math.ceil(wanted[name] / rounds)
            if turn < rounds:
                block = min(block, wanted[name] - len(samples[name]))
            elif not _lacks(samples[name], repeats, min_seconds):
                continue
            else:  # the guess was too low
                missing = 1000.0 * min_seconds - sum(samples[name])
                more = max(1, math.ceil(missing / float(np.median(samples[name]))))
                block = more if more <= block else max(block, math.ceil(more / 2))
            if block > 0:
                samples[name] += _block(runs[name], block, warmup, len(runs) > 1, clock)
            if progress:
                done = sum(map(len, samples.values()))
                progress(done, max(done, sum(wanted.values())))
        order.reverse()
        turn += 1
    return {
        name: Latency(tuple(values), batch if isinstance(batch, int) else batch[name])
        for name, values in samples.items()
    }


def _wanted(run: Callable[[], object], repeats: int, warmup: int, min_seconds: float, clock: Callable[[], int]) -> int:
    """Warm up, and guess how many runs fill the time."""
    times = []
    for _ in range(max(warmup, 1) if min_seconds else warmup):
        before = clock()
        run()
        times.append(clock() - before)
    if not min_seconds:
        return repeats
    usual = max(float(np.median(times[len(times) // 2 :])), 1.0)
    return max(repeats, math.ceil(min_seconds * 1e9 / usual))


def _lacks(samples: list[float], repeats: int, min_seconds: float) -> bool:
    return len(samples) < repeats or sum(samples) < 1000.0 * min_seconds


def _block(run: Callable[[], object], count: int, warmup: int, rest: bool, clock: Callable[[], int]) -> list[float]:
    if rest:
        time.sleep(REST)
    begun = clock()
    for done in range(min(SETTLE, warmup)):
        if done >= LEAST_SETTLE and clock() - begun > SETTLE_MS * 1e6:
            break
        run()
    times = []
    for _ in range(count):
        before = clock()
        run()
        times.append((clock() - before) / 1e6)
    return times
