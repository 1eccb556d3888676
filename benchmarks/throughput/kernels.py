"""What a GPU's time goes into: kernels of a ``torch.profiler`` trace, those that multiply matrices apart from the others.

Kernels are known by their names alone, so a library's new naming can fool this; the largest ones are listed with the shares.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from kdedge.errors import RunError

__all__ = ["Window", "is_matrix_kernel", "kernel_shares", "read_trace"]

MATRIX = re.compile(
    r"gemm|gemv|conv(?!ert)|cudnn|cublas|cutlass|xmma|nvjet|wgrad|dgrad|fprop|implicit|winograd|splitk|flash_|fmha|triton_tem_"
)
"""Multiplication and convolution, forwards and backwards, of cuBLAS, cuDNN, CUTLASS, PyTorch and Triton's templates."""

OTHER = re.compile(
    r"nchwtonhwc|nhwctonchw|bn_(fw|bw)|batch_?norm|pool|convert|elementwise|multi_tensor|softmax|triton_(poi|red|per)_"
)
"""What these libraries do besides, and Triton's fused kernels, which are named after operations that they merely adjoin."""


def is_matrix_kernel(name: str) -> bool:
    """Whether a kernel multiplies matrices or convolves."""
    lower = name.lower()
    return MATRIX.search(lower) is not None and OTHER.search(lower) is None


def kernel_shares(events: Iterable[Mapping[str, Any]], largest: int = 8) -> dict[str, Any]:
    """Shares of the GPU's time.

    Args:
        events: of a Chrome trace: ``cat``, ``name``, ``ts`` and ``dur`` (microseconds); those of other kinds are passed over.
        largest: how many kernels to list.

    Returns:
        ``matrix``: share (0-1) of the kernels' time in matrix kernels; ``busy``: share of the time between the first and the
        last kernel or copy in which at least one ran; ``kernel_s``: the kernels' seconds; ``kernels``: the largest, each
        with ``name``, ``share`` and ``matrix``.

    Raises:
        RunError: no kernels among the events.
    """
    spent: dict[str, float] = defaultdict(float)
    spans: list[tuple[float, float]] = []
    for event in events:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            start, length = float(event["ts"]), float(event["dur"])
            spans.append((start, start + length))
            if event["cat"] == "kernel":
                spent[event["name"]] += length
    total = sum(spent.values())
    if total <= 0:
        raise RunError("the profile holds no GPU kernels; profile on a machine with a CUDA device.")
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    return {
        "matrix": sum(length for name, length in spent.items() if is_matrix_kernel(name)) / total,
        "busy": _covered(spans) / (max(end for _, end in spans) - min(start for start, _ in spans)),
        "kernel_s": total / 1e6,
        "kernels": [
            {"name": name[:120], "share": length / total, "matrix": is_matrix_kernel(name)}
            for name, length in ranked[:largest]
        ],
    }


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    covered, reach = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return covered


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The events of a trace that ``torch.profiler`` wrote; RunError if it is none."""
    try:
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: no trace; the training ended before the profiled steps were over.") from error
    return events


class Window:
    """Profiles the steps after ``first`` up to ``first + steps`` and writes their trace to ``path``."""

    def __init__(self, path: Path, first: int = 10, steps: int = 20) -> None:
        self.path, self.first, self.last = path, first, first + steps
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self._profile = torch.profiler.profile(activities=kinds)

    def __call__(self, step: int) -> None:
        """Step number ``step``, from 1, is over."""
        if step == self.first:
            self._profile.start()
        elif step == self.last:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._profile.stop()
            self._profile.export_chrome_trace(str(self.path))
