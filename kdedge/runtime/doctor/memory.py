"""Room: memory and what limits it, swap, and the disk of the cache."""

import os
import shutil
import tempfile
from pathlib import Path

from kdedge.files import cache_dir
from kdedge.runtime.doctor.check import Check, Machine

__all__ = ["check_disk", "check_memory"]

TIGHT, TOO_LITTLE = 300e6, 120e6
"""Bytes of free memory: below the first a second model or a large photograph may not fit, below the second not even one.

``kdedge classify`` of one image peaks at about 110 MB.
"""

DISK_TIGHT = 200e6
"""Bytes of free disk: TensorRT's engines and a downloaded detector fit."""


def check_memory(machine: Machine) -> Check:
    """Free memory, the least of the machine's and the cgroup's, and swap."""
    table = _meminfo(machine)
    if not table:
        total = _total()
        text = f"{total / 1e9:.1f} GB in all" if total else f"not told by {machine.system}"
        return Check("memory", "info", text, "", {"total": total})
    free, total, swap = (
        table.get("MemAvailable", table.get("MemFree", 0)),
        table.get("MemTotal", 0),
        table.get("SwapTotal", 0),
    )
    limit, used = _cgroup(machine)
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, swap {swap / 1e9:.1f} GB"
    if limit is not None and limit < total:
        left = max(0, limit - (used or 0))
        free = min(free, left)
        text += f"; the cgroup allows {limit / 1e9:.2f} GB, {left / 1e9:.2f} GB of it free"
    details = {"free": free, "total": total, "swap": swap, "cgroup_limit": limit, "cgroup_used": used}
    if free < TOO_LITTLE:
        advice = "end other programs, raise the container's limit (docker run --memory), or add swap"
        return Check("memory", "problem", f"{text}: too little for one model", advice, details)
    if free < TIGHT:
        return Check("memory", "warn", text, "add swap, or keep other programs small", details)
    return Check("memory", "ok", text, "", details)


def check_disk() -> Check:
    """Whether the cache can be written, and the room there."""
    try:
        folder = cache_dir()
    except (OSError, RuntimeError) as error:
        return Check("cache", "problem", f"cannot be made: {error}", "set KDEDGE_CACHE to a folder that can be written")
    details: dict[str, object] = {"path": str(folder)}
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor"):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror or error}"
        return Check("cache", "problem", text, "set KDEDGE_CACHE to a folder that can be written", details)
    details["free"] = free
    text = f"{folder}, {free / 1e9:.1f} GB free"
    if free < DISK_TIGHT:
        advice = "make room, or set KDEDGE_CACHE to a larger disk: TensorRT's engines and downloads lie there"
        return Check("cache", "warn", text, advice, details)
    return Check("cache", "ok", text, "", details)


def _meminfo(machine: Machine) -> dict[str, int]:
    table = {}
    for line in machine.read("/proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            table[key] = int(words[0]) * 1024
    return table


def _total() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _cgroup(machine: Machine) -> tuple[int | None, int | None]:
    """Limit and use in bytes of the tightest cgroup this process is in, version 1 or 2; None where there is none."""
    tightest: tuple[int | None, int | None] = (None, None)
    for line in ["0::/", "0:memory:/", *machine.read("/proc/self/cgroup").splitlines()]:
        parts = line.split(":", 2)
        if len(parts) != 3 or (parts[1] and "memory" not in parts[1].split(",")):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if parts[1] else ("memory.max", "memory.current")
        home = Path("/sys/fs/cgroup/memory" if parts[1] else "/sys/fs/cgroup")
        below = Path(parts[2].lstrip("/")).parts
        for depth in range(len(below) + 1):  # a parent's limit holds too
            folder = home.joinpath(*below[:depth])
            limit, used = (machine.number(f"{folder}/{name}") for name in names)
            if limit is not None and (tightest[0] is None or limit < tightest[0]):
                tightest = (limit, None if used is None else used - _cached(machine, folder))
    return tightest


def _cached(machine: Machine, folder: Path) -> int:
    """Bytes of a cgroup that are files it has read, which the system takes back when it must."""
    for line in machine.read(f"{folder}/memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0
