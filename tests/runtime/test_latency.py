"""Timing on a clock of our own: taking turns, warm-up, percentiles."""

from collections import Counter

import numpy as np
import pytest

from kdedge.errors import ModelError
from kdedge.runtime.latency import BLOCK, SETTLE, Latency, measure


class Clock:
    """Time passes only when a network runs."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def run(self, name: str, milliseconds: float) -> object:
        self.calls.append(name)
        self.now += int(milliseconds * 1e6)
        return None


def test_networks_take_turns() -> None:
    clock = Clock()
    seen: list[tuple[int, int]] = []
    found = measure(
        {"a": lambda: clock.run("a", 2.0), "b": lambda: clock.run("b", 5.0)},
        repeats=2 * BLOCK + 5,
        warmup=SETTLE,
        batch=4,
        progress=lambda done, total: seen.append((done, total)),
        clock=lambda: clock.now,
    )
    assert found["a"].samples_ms == (2.0,) * (2 * BLOCK + 5)
    assert found["b"].samples_ms == (5.0,) * (2 * BLOCK + 5)
    assert found["a"].images_per_s == pytest.approx(2000.0)
    assert Counter(clock.calls) == dict.fromkeys("ab", SETTLE + 3 * SETTLE + 2 * BLOCK + 5)
    block = BLOCK + SETTLE
    turns = [clock.calls[2 * SETTLE :][i] for i in (0, block, 2 * block, 3 * block)]
    assert turns == ["a", "b", "b", "a"]
    assert seen[-1] == (4 * BLOCK + 10, 4 * BLOCK + 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_percentiles() -> None:
    samples = tuple(np.random.default_rng(0).permutation(np.arange(1.0, 102.0)))
    found = Latency(samples)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((51.0, 91.0, 100.0))
    assert found.images_per_s == pytest.approx(1000.0 / 51.0)


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(ModelError, match="repeats is 0"):
        measure({"a": lambda: None}, repeats=0)
    with pytest.raises(ModelError, match="0 networks"):
        measure({})
