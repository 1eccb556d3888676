"""Joules an image, from the machine's own counters, above what it uses when it does nothing."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kdedge.progress import Progress
from kdedge.runtime.power import Meter, Sensor

__all__ = ["NOT_ASKED", "Energy", "measure_energy"]

NOT_ASKED = "not asked for"
"""The reason of null where nobody wanted it."""

IDLE_SECONDS, SECONDS, ROUNDS = 2.0, 2.0, 3


@dataclass(frozen=True)
class Energy:
    """What one network used.

    Attributes:
        j_per_image: joules an image above idle; the median of the rounds.
        gross_j_per_image: the same with what the machine uses anyway.
        idle_w, busy_w: power right before, and while it ran, watts; medians.
        images: in all rounds.
    """

    j_per_image: float
    gross_j_per_image: float
    idle_w: float
    busy_w: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def measure_energy(
    runs: Mapping[str, Callable[[], object]],
    batches: Mapping[str, int],
    sensor: Sensor,
    progress: Progress | None = None,
    seconds: float = SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[dict[str, Energy], str]:
    """Let each network run without a pause for a while, in turns, each time after a while of rest.

    Args:
        runs: name to a function that runs a network once.
        batches: name to the images of one run.
        sensor: what measures.
        progress: called with (windows done, windows in all).
        seconds, idle_seconds: of each window.
        rounds: windows of each network.
        clock, sleep: seconds that never fall, and how to let them pass.

    Returns:
        Energy of each network, and why there is none: empty, or that the counter stood still or fell silent.
    """
    nets: dict[str, list[float]] = {name: [] for name in runs}
    gross: dict[str, list[float]] = {name: [] for name in runs}
    idle: dict[str, list[float]] = {name: [] for name in runs}
    busy: dict[str, list[float]] = {name: [] for name in runs}
    images = dict.fromkeys(runs, 0)
    try:
        with Meter(sensor, clock) as meter:
            for turn in range(rounds):
                for place, (name, run) in enumerate(runs.items()):
                    before, start = meter.read()
                    sleep(idle_seconds)
                    at_rest, middle = meter.read()
                    count = 0
                    while clock() - middle < seconds:
                        run()
                        count += batches[name]
                    after, end = meter.read()
                    idle_w = (at_rest - before) / (middle - start)
                    used = after - at_rest
                    idle[name].append(idle_w)
                    busy[name].append(used / (end - middle))
                    gross[name].append(used / count)
                    nets[name].append((used - idle_w * (end - middle)) / count)
                    images[name] += count
                    if progress:
                        progress(turn * len(runs) + place + 1, rounds * len(runs))
    except (OSError, ValueError) as error:
        return {}, str(error)
    if not any(any(values) for values in gross.values()):
        return {}, f"the counter of {sensor.name} stands still, as it does in many virtual machines"
    median = statistics.median
    return {
        name: Energy(median(nets[name]), median(gross[name]), median(idle[name]), median(busy[name]), images[name])
        for name in runs
    }, ""
