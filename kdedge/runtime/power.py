"""Energy that a machine itself measures: RAPL of Intel and AMD, the INA3221 of a Jetson, the counter of an NVIDIA GPU.

Where none can be read the reason is told; nothing is ever estimated from a data sheet.
"""

import ctypes
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kdedge.runtime.sensors import ROOT, number, read

__all__ = ["Ina3221", "Meter", "Nvml", "Rail", "Rapl", "Sensor", "energy_sensor"]

WHOLE = ("VDD_IN", "POM_5V_IN", "5V_IN", "VIN")
"""Rails that feed the whole module."""

PARTS = (("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
"""Rails that together feed it on an AGX Xavier and an AGX Orin, which have none for the whole."""


class Sensor(Protocol):
    """Measures energy from the time it was made.

    Attributes:
        name: ``RAPL``, ``INA3221`` or ``NVML``.
        scope: what it covers, in words.
        interval: seconds between two updates, at most.
        joules: since the first update.
    """

    name: str
    scope: str
    interval: float
    joules: float

    def update(self, now: float) -> None:
        """Read it; ``now`` in seconds, never falling. Raises OSError where it cannot be read any more."""


class Rapl:
    """Counters of the processor packages (and of the memory, where it has its own), microjoules that begin again at zero.

    Args:
        domains: name, file of the counter, and the value after which it begins again.
    """

    name, interval = "RAPL", 1.0

    def __init__(self, domains: list[tuple[str, Path, int]]) -> None:
        self.scope = " + ".join(name for name, _, _ in domains)
        self.joules = 0.0
        self._domains = domains
        self._last: list[int] | None = None

    def update(self, now: float) -> None:  # noqa: ARG002  a counter needs no clock
        """See :class:`Sensor`."""
        values = [int(path.read_text()) for _, path, _ in self._domains]
        if self._last is not None:
            for value, last, (_, _, most) in zip(values, self._last, self._domains, strict=True):
                self.joules += (value - last if value >= last else value - last + most) / 1e6
        self._last = values


@dataclass(frozen=True)
class Rail:
    """One channel of an INA3221: its name, and a function that reads its power in milliwatts."""

    name: str
    milliwatts: Callable[[], float]


class Ina3221:
    """Power of the rails that feed a Jetson, read many times a second and added up (trapezoidal rule)."""

    name, interval = "INA3221", 0.02

    def __init__(self, rails: list[Rail]) -> None:
        self.scope = " + ".join(rail.name for rail in rails)
        self.joules = 0.0
        self._rails = rails
        self._last: tuple[float, float] | None = None

    def update(self, now: float) -> None:
        """See :class:`Sensor`."""
        watts = sum(rail.milliwatts() for rail in self._rails) / 1000.0
        if self._last is not None:
            then, before = self._last
            self.joules += (watts + before) / 2 * (now - then)
        self._last = now, watts


class Nvml:
    """The energy counter of the first NVIDIA GPU (Volta or newer), millijoules; the board of the GPU alone."""

    name, interval = "NVML", 1.0

    def __init__(self, library: Any) -> None:
        self.scope = "GPU board"
        self.joules = 0.0
        self._library, self._device = library, ctypes.c_void_p()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)):
            raise OSError("NVML finds no GPU")
        self._last = self._read()

    def _read(self) -> int:
        value = ctypes.c_ulonglong()
        if code := self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(value)):
            raise OSError(f"this GPU has no energy counter (NVML error {code})")
        return value.value

    def update(self, now: float) -> None:  # noqa: ARG002
        """See :class:`Sensor`."""
        value = self._read()
        self.joules += (value - self._last) / 1000.0
        self._last = value


class Meter:
    """Keeps a sensor up to date from a thread, so that no counter begins again unseen and no rail goes unread.

    In a ``with`` block; :meth:`read` gives what came together so far.
    """

    def __init__(self, sensor: Sensor, clock: Callable[[], float] = time.monotonic) -> None:
        self.sensor = sensor
        self._clock = clock
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._poll, name="kdedge-energy", daemon=True)

    def __enter__(self) -> "Meter":
        self.sensor.update(self._clock())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def read(self) -> tuple[float, float]:
        """Joules so far, and the time in seconds at which they were read; OSError where the sensor fell silent."""
        with self._lock:
            if self._failure:
                raise self._failure
            now = self._clock()
            self.sensor.update(now)
            return self.sensor.joules, now

    def _poll(self) -> None:
        while not self._end.wait(self.sensor.interval):
            with self._lock:
                try:
                    self.sensor.update(self._clock())
                except (OSError, ValueError) as error:
                    self._failure = OSError(f"{self.sensor.name} cannot be read any more ({error})")
                    return


def energy_sensor(
    root: Path = ROOT, gpu: bool = False, load: Callable[[str], Any] = ctypes.CDLL
) -> tuple[Sensor | None, str]:
    """The sensor that covers most of what a network uses, or None and why there is none.

    Args:
        root: of the file system.
        gpu: whether the networks run on a GPU, whose own counter then comes before RAPL.
        load: gives a shared library by its name.
    """
    why: list[str] = []
    rails, silent = _rails(root)
    if rails:
        if chosen := _whole(rails):
            return Ina3221(chosen), ""
        why.append(
            f"INA3221: none of the rails {', '.join(rail.name for rail in rails)} is known to feed the whole module"
        )
    elif silent:
        why.append(silent)
    if gpu:
        try:
            return Nvml(load("libnvidia-ml.so.1")), ""
        except (OSError, AttributeError) as error:
            why.append(f"NVML: {error}")
    domains, refused = _domains(root)
    if domains and not gpu:  # a processor's counter knows nothing of the GPU
        return Rapl(domains), ""
    if refused:
        why.append(refused)
    return None, "; ".join(why) or "this machine shows no energy counter (RAPL, INA3221)"


def _domains(root: Path) -> tuple[list[tuple[str, Path, int]], str]:
    found = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name, counter, most = read(zone / "name"), zone / "energy_uj", number(zone / "max_energy_range_uj")
        if not (name.startswith("package") or name == "dram") or not most:
            continue  # core and uncore are inside the package, psys holds it
        try:
            int(counter.read_text())
        except PermissionError:
            return [], (
                "RAPL may be read by root alone: run 'sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj' (until the "
                "next start) or bench as root"
            )
        except (OSError, ValueError) as error:
            return [], f"RAPL: {error}"
        parent = read(zone.parent / zone.name.rpartition(":")[0] / "name") if zone.name.count(":") > 1 else ""
        found.append((f"{name} of {parent}" if name == "dram" and parent else name, counter, most))
    return found, ""


def _rails(root: Path) -> tuple[list[Rail], str]:
    """The channels of all INA3221 that can be read, and why there are none where the chip is there."""
    found: list[Rail] = []
    chips = 0
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):  # JetPack 5 and 6
        if not read(chip / "name").startswith("ina3221"):
            continue
        chips += 1
        for label in sorted(chip.glob("in[1-3]_label")):
            place = label.name[2]
            volts, amperes = chip / f"in{place}_input", chip / f"curr{place}_input"
            if read(label) not in ("", "NC") and number(volts) is not None and number(amperes) is not None:
                found.append(Rail(read(label), _product(volts, amperes)))
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):  # JetPack 4
        chips += 1
        power = label.with_name(f"in_power{re.sub(r'.*_', '', label.name)}_input")
        if number(power) is not None:
            found.append(Rail(read(label), _plain(power)))
    return found, "INA3221: none of its channels can be read; bench as root" if chips and not found else ""


def _product(volts: Path, amperes: Path) -> Callable[[], float]:
    return lambda: int(volts.read_text()) * int(amperes.read_text()) / 1000.0  # mV times mA


def _plain(power: Path) -> Callable[[], float]:
    return lambda: float(int(power.read_text()))


def _whole(rails: list[Rail]) -> list[Rail]:
    by_name = {rail.name: rail for rail in rails}
    for name in WHOLE:
        if name in by_name:
            return [by_name[name]]
    for parts in PARTS:
        if all(part in by_name for part in parts):
            return [by_name[part] for part in parts]
    return []
