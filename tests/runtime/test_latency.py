"""Timing on a clock of our own: taking turns, warm-up, percentiles."""

from collections import Counter

import numpy as np
import pytest

from kdedge.errors import ModelError
from kdedge.runtime.latency import BLOCK, LEAST_SETTLE, SETTLE, Latency, measure


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
    assert found.mean_ms == pytest.approx(51.0)
    assert found.seconds == pytest.approx(101 * 51.0 / 1000)


def test_time_is_filled_by_longer_blocks() -> None:
    clock = Clock()
    runs = {"slow": lambda: clock.run("slow", 50.0), "fast": lambda: clock.run("fast", 1.0)}
    found = measure(runs, repeats=30, warmup=4, batch={"slow": 1, "fast": 8}, clock=lambda: clock.now, min_seconds=3.0)
    assert len(found["slow"].samples_ms) == 60
    assert len(found["fast"].samples_ms) == 3000
    assert found["fast"].batch == 8
    assert found["fast"].images_per_s == pytest.approx(8000.0)
    turns = [name for name, before in zip(clock.calls, [None, *clock.calls], strict=False) if name != before]
    assert turns == ["slow", "fast"] * 3  # warm-up, then three rounds, the second the other way round


def test_time_is_filled_where_the_guess_was_too_low() -> None:
    clock = Clock()
    paces = iter([10.0] * 4 + [1.0] * 10_000)  # slow while warming up
    found = measure(
        {"a": lambda: clock.run("a", next(paces)), "b": lambda: clock.run("b", 5.0)},
        repeats=10,
        warmup=4,
        clock=lambda: clock.now,
        min_seconds=0.5,
    )
    assert all(0.5 <= time.seconds < 0.6 for time in found.values())


def test_tiny_networks_change_places_seldom() -> None:
    clock = Clock()
    runs = {name: lambda name=name: clock.run(name, 0.01) for name in "ab"}
    found = measure(runs, repeats=5, warmup=2, clock=lambda: clock.now, min_seconds=0.2)
    assert all(20_000 <= len(time.samples_ms) < 20_010 for time in found.values())  # rounding may ask for one more
    assert sum(name != before for name, before in zip(clock.calls[1:], clock.calls, strict=False)) <= 5


def test_slow_networks_settle_for_a_tenth_of_a_second() -> None:
    clock = Clock()
    measure({"a": lambda: clock.run("a", 60.0)}, repeats=BLOCK, warmup=SETTLE, clock=lambda: clock.now)
    assert len(clock.calls) == SETTLE + LEAST_SETTLE + BLOCK


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(ModelError, match="repeats is 0"):
        measure({"a": lambda: None}, repeats=0)
    with pytest.raises(ModelError, match="0 networks"):
        measure({})
