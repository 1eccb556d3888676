"""Whether the machine was left alone while it was timed: what others did, heat, clocks, and the spread of the times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdedge.runtime.latency import Latency
from kdedge.runtime.sensors import activity, clocks, temperatures, throttling

__all__ = ["Seen", "Watch"]

SPREAD = 1.25
"""p90 over p50 above which the times are said to be unquiet."""

LOAD = 0.25
"""Load average for each core above which the machine is said to be busy beforehand."""

OTHERS, STOLEN = 0.05, 0.02
"""Shares of all processors' time that other processes, and other machines of a hypervisor, may take."""

WARMER = 10.0
"""Degrees by which a sensor may rise."""

SLOWER = 0.9
"""Share of the clock at the beginning below which it is said to have fallen."""


@dataclass(frozen=True)
class Seen:
    """What changed from the beginning to the end of a measurement.

    Attributes:
        others, stolen: shares (0-1) of all processors' time, None where the system does not say.
        temperatures: degrees Celsius at the end.
        rise: the most that a sensor rose, degrees; None without one.
        mhz: clock at the beginning and at the end, None where the system does not say.
        throttled: kind to events in between, or to a Raspberry Pi's flags.
    """

    others: float | None
    stolen: float | None
    temperatures: Mapping[str, float]
    rise: float | None
    mhz: tuple[float | None, float | None]
    throttled: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "other_processes": self.others,
            "stolen": self.stolen,
            "temperatures": dict(self.temperatures),
            "rise": self.rise,
            "mhz": list(self.mhz),
            "throttled": dict(self.throttled),
        }

    def warnings(self, known: Mapping[str, Any], times: Sequence[tuple[str, Latency]] = ()) -> list[str]:
        """What speaks against the numbers, in sentences; none on a quiet machine.

        Args:
            known: what :func:`kdedge.runtime.conditions.conditions` gave before.
            times: name and latency of each network.
        """
        said = []
        cores, load, governor = known["cores_usable"], known["load_average"], known["governor"]
        if load is not None and load > LOAD * cores:
            said.append(f"before the runs the load average was {load:g} on {cores} cores; let other work end first")
        if self.others is not None and self.others > OTHERS:
            said.append(f"other processes took {self.others:.0%} of the processors meanwhile")
        if self.stolen is not None and self.stolen > STOLEN:
            said.append(f"the hypervisor gave {self.stolen:.0%} of the processors' time to other machines")
        if self.rise is not None and self.rise > WARMER:
            said.append(f"it grew {self.rise:.0f} degrees warmer; let it reach its temperature first")
        before, after = self.mhz
        if before and after and after < SLOWER * before:
            said.append(f"its clock fell from {before:.0f} to {after:.0f} MHz")
        for kind, events in self.throttled.items():
            said.append(f"it was throttled ({kind}: {', '.join(events) if isinstance(events, list) else events})")
        if governor and governor != "performance":
            said.append(f"the clock is not fixed (governor {governor}); set it to performance")
        for name, time in times:
            if (ratio := time.p90_ms / time.p50_ms) > SPREAD and len(time.samples_ms) >= 10:
                said.append(f"{name}: p90 is {ratio:.2f} times p50; measure again when nothing else runs")
        return said


class Watch:
    """Looks at the machine now, and again at :meth:`end`."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        """Args:
        known: conditions found a moment ago, whose temperatures are then the beginning.
        """
        self._temperatures = dict(known["temperatures"]) if known else temperatures()
        self._mhz = clocks().get("mhz")
        self._throttled = throttling()
        self._activity = activity()

    def end(self) -> Seen:
        """What changed since."""
        now = activity()
        shares = now.since(self._activity) if now and self._activity else None
        warm = temperatures()
        rises = [value - self._temperatures[name] for name, value in warm.items() if name in self._temperatures]
        held = {}
        for kind, value in throttling().items():
            if isinstance(value, list):
                if value and kind == "pi":
                    held[kind] = value
            elif (events := value - self._throttled.get(kind, value)) > 0:
                held[kind] = events
        return Seen(
            shares[0] if shares else None,
            shares[1] if shares else None,
            warm,
            max(rises) if rises else None,
            (self._mhz, clocks().get("mhz")),
            held,
        )
