"""On what a measurement was made: without this a latency says nothing."""

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

from kdedge import __version__
from kdedge.runtime.sensors import clocks, jetson, memory, power_mode, temperatures
from kdedge.runtime.session import cgroup_cores, usable_cores
from kdedge.runtime.tensorrt_cache import gpu_name, tensorrt_version

__all__ = ["conditions", "runtime_build"]

FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
"""Instruction sets that decide how fast int8 is."""


def conditions() -> dict[str, Any]:
    """The machine and the software, as plain JSON values; what cannot be found out is empty or null.

    onnxruntime is not loaded for it: see :func:`runtime_build`.
    """
    known = clocks()
    cores = cgroup_cores()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cpu_flags": _flags(),
        "cores_usable": usable_cores(),
        "cores_cgroup": cores if isfinite(cores) else None,
        "governor": known.get("governor", ""),
        "clocks": known,
        "power_mode": power_mode(),
        "jetson": jetson(),
        "temperatures": temperatures(),
        "memory": memory(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {
            "python": platform.python_version(),
            "kdedge": __version__,
            **{name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu", "numpy") if _version(name)},
        },
    }


def runtime_build(providers: Iterable[str]) -> dict[str, str]:
    """How onnxruntime was built and, where one of ``providers`` is a GPU's, which GPU and which TensorRT it found."""
    import onnxruntime

    found = {"onnxruntime": str(onnxruntime.get_build_info())}
    used = set(providers)
    if used & {"cuda", "tensorrt"}:
        found["gpu"] = gpu_name()
        if cuda := str(getattr(onnxruntime, "cuda_version", "")):
            found["cuda"] = cuda
    if "tensorrt" in used:
        found["tensorrt"] = tensorrt_version()
    return found


def _cpu() -> str:
    board = _read("/proc/device-tree/model").rstrip("\0")  # a Jetson or a Raspberry Pi names itself here
    model = _cpuinfo("model name", "Hardware", "Model") or platform.processor() or platform.machine()
    return f"{board} ({model})" if board else model


def _flags() -> list[str]:
    present = set(_cpuinfo("flags", "Features").split())
    return [flag for flag in FLAGS if flag in present]


def _cpuinfo(*keys: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
