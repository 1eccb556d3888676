"""Where and in which precision a step runs: device, memory layout, autocast."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Engine", "set_threads", "usable_cores"]


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> None:
    """Use every core this process may use, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())


@dataclass(frozen=True)
class Engine:
    """A device and a precision (``fp32`` or ``bf16``)."""

    device: torch.device
    precision: str = "fp32"

    @classmethod
    def choose(cls, precision: str = "fp32") -> "Engine":
        """The GPU if there is one, else the CPU."""
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"), precision)

    def place(self, network: nn.Module) -> nn.Module:
        """Move to the device, channels last."""
        placed: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def tensor(self, array: NDArray[np.generic]) -> Tensor:
        """An array on the device; images (B, C, H, W) channels last."""
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 where chosen."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def faster_precision(self, step: Callable[["Engine"], None]) -> str:
        """Time a training step in fp32 and in bf16 and name the faster; bf16, less exact, must win by a quarter.

        CPUs without bf16 instructions are not asked: emulation is slow and never wins.
        """
        if self.device.type == "cpu" and not _cpu_has_bf16():
            return "fp32"
        seconds: dict[str, float] = {}
        for trial in range(4):  # in turns, the fastest counts: other work on the machine only ever slows a step down
            for precision in ("fp32", "bf16"):
                begun = time.perf_counter()
                step(Engine(self.device, precision))
                self._wait()
                if trial:  # the first one warms up
                    taken = time.perf_counter() - begun
                    seconds[precision] = min(taken, seconds.get(precision, taken))
        return "bf16" if seconds["bf16"] < 0.75 * seconds["fp32"] else "fp32"

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _cpu_has_bf16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))
