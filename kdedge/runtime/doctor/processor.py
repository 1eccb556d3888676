"""The processor: what int8 can expect of it, how many threads there are, how fast it is allowed to be."""

import os
from typing import Any

from kdedge.runtime import sensors
from kdedge.runtime.doctor.check import Check, Machine
from kdedge.runtime.session import MOST_THREADS, cgroup_cores, physical_cores

__all__ = ["check_clock", "check_cpu", "check_frequency", "check_instructions", "check_threads"]

X86 = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX int8",
}
ARM = {"asimd": "NEON", "asimddp": "dot product", "i8mm": "i8mm", "sve": "SVE"}
APPLE = {
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
}
SELF_DRIVING = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
"""Drivers whose 'powersave' is the usual governor, which follows the load."""

BUSY = 0.5
"""Load a core above which a measurement says little."""


def check_cpu(machine: Machine) -> Check:
    """Model and cores."""
    model = _model(machine)
    logical = _count(machine)
    everything = set(range(logical))
    physical = physical_cores(everything, machine.path("/sys/devices/system/cpu"))
    threads = f", {logical} threads" if logical != physical else ""
    details = {"model": model, "cores": physical, "threads": logical, "smt": logical > physical, "arch": machine.arch}
    return Check(
        "processor", "ok", f"{model}, {physical} core{'s' * (physical != 1)}{threads}, {machine.arch}", "", details
    )


def check_instructions(machine: Machine) -> Check:
    """The instruction sets that decide how fast, and on x86 how right, int8 is."""
    flags = _flags(machine)
    names = ARM if machine.arm else X86
    found = [label for flag, label in names.items() if flag in flags]
    details: dict[str, Any] = {"flags": [flag for flag in names if flag in flags]}
    text = ", ".join(found)
    if not flags:
        text = f"not told by {machine.system}"
        return Check("instructions", "info", text, "measure int8 against fp32: kdedge bench", details)
    if machine.arm:
        if "asimddp" in flags:
            return Check("instructions", "ok", f"{text}: int8 products are added up in one instruction", "", details)
        advice = "measure int8 against fp32 on this board: kdedge bench"
        return Check(
            "instructions", "info", f"{text}, no dot product (Cortex-A72 and older): int8 gains less", advice, details
        )
    if {"avx512_vnni", "avx_vnni"} & flags:
        return Check("instructions", "ok", f"{text}: int8 products are added up in 32 bits", "", details)
    text = f"{text or 'none of AVX2, AVX-512'}, no VNNI: int8 is slower, and 8-bit weights saturate in 16-bit sums"
    return Check(
        "instructions", "warn", text, "export for this machine with 7-bit weights: kdedge export RUN --no-vnni", details
    )


def check_threads(machine: Machine) -> Check:
    """Cores this process may use, against those of the machine."""
    logical = _count(machine)
    allowed = set(machine.cpus)
    cores = physical_cores(allowed, machine.path("/sys/devices/system/cpu"))
    quota = cgroup_cores(machine.path("/sys/fs/cgroup"), machine.path("/proc/self/cgroup"))
    usable = max(1, int(min(cores, quota)))
    threads = min(usable, MOST_THREADS)
    omp = machine.environ.get("OMP_NUM_THREADS", "")
    details = {
        "usable": usable,
        "default_threads": threads,
        "allowed": len(allowed),
        "machine": logical,
        "quota": None if quota == float("inf") else quota,
        "OMP_NUM_THREADS": omp or None,
    }
    text = f"{threads} by default, of {usable} usable core{'s' * (usable != 1)}"
    if omp:
        text += f"; OMP_NUM_THREADS={omp} concerns NumPy and PyTorch, not onnxruntime"
    limits = []
    if quota < cores:
        limits.append(f"the cgroup allows {quota:g} of {cores} cores")
    if len(allowed) < logical:
        limits.append(f"the affinity allows {len(allowed)} of {logical} processors")
    if quota < 1:
        advice = "give the container at least one core (docker run --cpus 1); latencies jump with less"
        return Check("threads", "warn", f"{text}; {', '.join(limits)}", advice, details)
    if limits:
        advice = "onnxruntime by itself does not look at a cgroup's limit; kdedge does, and --threads overrides it"
        return Check("threads", "info", f"{text}; {', '.join(limits)}", advice if quota < cores else "", details)
    return Check("threads", "ok", text, "", details)


def check_frequency(machine: Machine) -> Check:
    """Governor, a capped frequency, and what else the machine does."""
    cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq"
    governors = _governors(machine)
    driver = machine.read(f"{cpufreq}/scaling_driver")
    most, cap = machine.number(f"{cpufreq}/cpuinfo_max_freq"), machine.number(f"{cpufreq}/scaling_max_freq")
    load = _load(machine)
    details: dict[str, Any] = {
        "governors": governors,
        "driver": driver or None,
        "max_khz": most,
        "cap_khz": cap,
        "load": load,
    }
    mode = "" if machine.jetson else sensors.power_mode(machine.root, machine.output)
    details["power_mode"] = mode or None
    text = f"governor {', '.join(governors)}" if governors else "governor not told"
    text += f", {mode}" if mode else ""
    if "powersave" in governors and driver not in SELF_DRIVING:
        advice = (
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor (until the next start)"
        )
        return Check("speed", "warn", f"{text}: the processor stays at its lowest frequency", advice, details)
    if most and cap and cap < 0.95 * most:
        text += f", capped at {cap / 1e6:.1f} of {most / 1e6:.1f} GHz"
        return Check(
            "speed", "warn", text, "a power profile or a thermal limit caps it; look for it before you measure", details
        )
    if "battery" in mode or "low-power" in mode:
        return Check(
            "speed", "info", text, "plug it in and take the power profile 'performance' before you measure", details
        )
    if load is not None and load > BUSY * _count(machine):
        advice = "wait for it before you measure"
        return Check("speed", "info", f"{text}; other work keeps it busy (load {load:.1f})", advice, details)
    return Check("speed", "ok" if governors else "info", text, "", details)


def check_clock(machine: Machine) -> Check:
    """Whether the date can be right: boards without a battery begin in the past, and then no certificate is valid."""
    from datetime import UTC, datetime
    from pathlib import Path

    day = datetime.fromtimestamp(machine.now, UTC).date().isoformat()
    if machine.now < Path(__file__).stat().st_mtime - 86400:
        advice = "set it: sudo timedatectl set-ntp true; downloads over https fail with a wrong date"
        return Check("clock", "warn", f"{day}, before kdedge was installed", advice, {"date": day})
    return Check("clock", "ok", day, "", {"date": day})


def _model(machine: Machine) -> str:
    if machine.system == "Darwin":
        code, told = machine.call(["sysctl", "-n", "machdep.cpu.brand_string"])
        if code == 0 and told:
            return told
    keys = {"model name": "", "Hardware": "", "Model": ""}
    for line in machine.read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys and not keys[key.strip()]:
            keys[key.strip()] = value.strip()
    return machine.board or next((value for value in keys.values() if value), "") or _elsewhere(machine)


def _elsewhere(machine: Machine) -> str:
    return machine.environ.get("PROCESSOR_IDENTIFIER", "") or machine.arch


def _flags(machine: Machine) -> set[str]:
    if machine.system == "Darwin":
        _, told = machine.call(["sysctl", *APPLE])
        pairs = [line.partition(":") for line in told.splitlines()]
        found = {APPLE[key] for key, _, value in pairs if key in APPLE and value.strip() == "1"}
        return found | {"asimd"} if machine.arm else found
    for line in machine.read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def _count(machine: Machine) -> int:
    """Logical processors that are online."""
    spans = machine.read("/sys/devices/system/cpu/online")
    try:
        ends = [[int(end) for end in span.split("-")] for span in spans.split(",")]
        return sum(span[-1] - span[0] + 1 for span in ends)
    except ValueError:
        return max(os.cpu_count() or 1, len(machine.cpus))


def _governors(machine: Machine) -> list[str]:
    files = machine.path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found = set()
    for file in files:
        try:
            found.add(file.read_text().strip())
        except OSError:
            continue
    return sorted(found)


def _load(machine: Machine) -> float | None:
    try:
        return float(machine.read("/proc/loadavg").split()[0])
    except (IndexError, ValueError):
        return None
