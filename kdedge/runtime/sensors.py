"""What a machine says about its heat, clocks, power mode and the work of others; Linux only, empty elsewhere.

Every function takes the root of the file system, so that a folder can play another machine.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Activity",
    "activity",
    "clocks",
    "jetson",
    "memory",
    "power_mode",
    "run_tool",
    "temperatures",
    "throttling",
]

ROOT = Path("/")
CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Drivers under hwmon that measure a processor."""

PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``vcgencmd get_throttled``; sixteen places higher they mean: at some time since the start."""

Call = Callable[[Sequence[str]], str]


def run_tool(words: Sequence[str]) -> str:
    """What a command prints on stdout; empty if it is absent, fails or takes more than ten seconds."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            list(words),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def read(path: Path) -> str:
    """Text of a file without the white space and NULs at its ends; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip().strip("\0").strip()
    except OSError:  # a sensor that sleeps answers so, too
        return ""


def number(path: Path) -> int | None:
    """The whole number that a file holds; None if there is none."""
    try:
        return int(read(path))
    except ValueError:
        return None


def temperatures(root: Path = ROOT) -> dict[str, float]:
    """Thermal zones and processors' sensors by name, degrees Celsius; those that cannot be read are left out."""
    found: dict[str, float] = {}
    places = [(read(zone / "type"), zone / "temp") for zone in _numbered(root, "sys/class/thermal", "thermal_zone")]
    for chip in _numbered(root, "sys/class/hwmon", "hwmon"):
        if (name := read(chip / "name")) in CHIPS:
            sensors = sorted(chip.glob("temp*_input"), key=_natural)
            places += [(f"{name} {read(Path(str(path)[:-6] + '_label'))}".strip(), path) for path in sensors]
    for name, path in places:
        value = number(path)
        if value is None or not -40_000 < value < 150_000:
            continue
        key, count = name or "zone", 2
        while key in found:
            key, count = f"{name or 'zone'} {count}", count + 1
        found[key] = value / 1000.0
    return found


def clocks(root: Path = ROOT) -> dict[str, Any]:
    """``governor`` (all of them where processors differ), ``min_mhz``, ``max_mhz`` (the bounds set), ``mhz`` (now, the mean)
    and ``boost`` (whether it is allowed); a key is absent where the system does not say, as in most virtual machines.
    """
    folders = _numbered(root, "sys/devices/system/cpu", "cpu")
    policies = [folder / "cpufreq" for folder in folders if (folder / "cpufreq").is_dir()]
    found: dict[str, Any] = {}
    if governors := sorted({word for policy in policies if (word := read(policy / "scaling_governor"))}):
        found["governor"] = ", ".join(governors)
    for key, name, choose in (
        ("min_mhz", "scaling_min_freq", min),
        ("max_mhz", "scaling_max_freq", max),
        ("mhz", "scaling_cur_freq", lambda values: sum(values) / len(values)),
    ):
        if values := [value for policy in policies if (value := number(policy / name)) is not None]:
            found[key] = round(choose(values) / 1000.0)
    if (boost := number(root / "sys/devices/system/cpu/cpufreq/boost")) is not None:
        found["boost"] = bool(boost)
    elif (no_turbo := number(root / "sys/devices/system/cpu/intel_pstate/no_turbo")) is not None:
        found["boost"] = not no_turbo
    return found


def power_mode(root: Path = ROOT, call: Call = run_tool) -> str:
    """A Jetson's ``MAXN (mode 0)``; a laptop's ``performance, mains``; empty where there is no such thing."""
    said = call(["nvpmodel", "-q"]) if jetson(root) else ""
    if name := re.search(r"NV Power Mode:\s*(\S+)(?:\s+(\d+))?", said):
        return f"{name[1]} (mode {name[2]})" if name[2] else name[1]
    if mode := re.search(r"pmode:0*(\d+)", read(root / "var/lib/nvpmodel/status")):
        named = re.search(rf"<\s*POWER_MODEL\s+ID={mode[1]}\s+NAME=(\S+)", read(root / "etc/nvpmodel.conf"))
        return f"{named[1]} (mode {mode[1]})" if named else f"mode {mode[1]}"
    words = [read(root / "sys/firmware/acpi/platform_profile")]
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    if any(read(supply / "type") == "Battery" for supply in supplies):
        mains = [number(supply / "online") for supply in supplies if read(supply / "type") in ("Mains", "USB")]
        words.append("mains" if any(mains) else "battery")
    return ", ".join(word for word in words if word)


def jetson(root: Path = ROOT) -> dict[str, str]:
    """``model``, ``l4t`` (``36.4.3``) and ``jetpack`` (``6.2``) of an NVIDIA Jetson, empty strings where it does not say; {} on
    any other machine.
    """
    model, release = read(root / "proc/device-tree/model"), read(root / "etc/nv_tegra_release")
    if not release and "jetson" not in model.lower():
        return {}
    numbers = re.search(r"R(\d+)\s+\(release\),\s*REVISION:\s*([\d.]+)", release)
    package = re.search(
        r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: ([\d.]+)", read(root / "var/lib/dpkg/status"), re.MULTILINE
    )
    return {
        "model": model,
        "l4t": f"{numbers[1]}.{numbers[2]}" if numbers else "",
        "jetpack": package[1] if package else "",
    }


def throttling(root: Path = ROOT, call: Call = run_tool) -> dict[str, Any]:
    """What holds the processor back, as counters since the start, to be read before and after.

    Returns:
        ``thermal`` (Intel: events over all cores), ``cgroup`` (periods in which the quota was used up), ``pi`` (a Raspberry
        Pi's flags in words, now); a key is absent where the system does not say.
    """
    found: dict[str, Any] = {}
    counters = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    if events := [value for path in counters if (value := number(path)) is not None]:
        found["thermal"] = sum(events)
    for stat in ("sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.stat"):
        if periods := re.search(r"^nr_throttled (\d+)$", read(root / stat), re.MULTILINE):
            found["cgroup"] = int(periods[1])
            break
    if "raspberry pi" in read(root / "proc/device-tree/model").lower() and (
        said := re.search(r"throttled=0x([0-9a-fA-F]+)", call(["vcgencmd", "get_throttled"]))
    ):
        bits = int(said[1], 16)
        found["pi"] = [name for bit, name in PI_FLAGS.items() if bits >> bit & 1]
        found["pi_since_start"] = [name for bit, name in PI_FLAGS.items() if bits >> (bit + 16) & 1]
    return found


def memory(root: Path = ROOT) -> dict[str, int]:
    """``total_mb`` and ``available_mb`` of the machine, ``cgroup_mb`` where the control group has a limit (10^6 bytes)."""
    text = read(root / "proc/meminfo")
    found = {}
    for key, name in (("total_mb", "MemTotal"), ("available_mb", "MemAvailable")):
        if value := re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE):
            found[key] = int(value[1]) * 1024 // 1_000_000
    limits = [number(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    if low := [value for value in limits if value and value < 1 << 60]:  # version 1 says 2^63 for "none"
        found["cgroup_mb"] = min(low) // 1_000_000
    return found


@dataclass(frozen=True)
class Activity:
    """Ticks of all processors since the start of the machine.

    Attributes:
        total: of any kind, also idle ones.
        busy: spent on a process, a virtual machine of its own or an interrupt.
        stolen: in which a hypervisor let another machine run.
        own: busy ones that this process and its children (those that ended) took.
    """

    total: int
    busy: int
    stolen: int
    own: float

    def since(self, before: "Activity") -> tuple[float, float] | None:
        """Shares (0-1) of the time since ``before`` that other processes took, and that was stolen; None if none passed."""
        total = self.total - before.total
        if total <= 0:
            return None
        others = (self.busy - before.busy) - (self.own - before.own)
        return max(0.0, others / total), (self.stolen - before.stolen) / total


def activity(root: Path = ROOT) -> Activity | None:
    """What the processors did so far; None where the system does not say."""
    line = read(root / "proc/stat").partition("\n")[0].split()
    if sys.platform == "win32" or len(line) < 9 or line[0] != "cpu":
        return None
    import os
    import resource

    user, nice, system, idle, waiting, irq, softirq, stolen = map(int, line[1:9])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(each.ru_utime + each.ru_stime for each in used) * os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq
    return Activity(busy + idle + waiting + stolen, busy, stolen, own)


def _numbered(root: Path, folder: str, stem: str) -> list[Path]:
    """``folder/stem0``, ``folder/stem1``..., in the order of their numbers."""
    found = [path for path in (root / folder).glob(f"{stem}[0-9]*") if path.name.removeprefix(stem).isdigit()]
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]
