"""Whether a torch teacher may compute in bf16: only where that is faster and says the same."""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.errors import RunError
from kdedge.training.metrics import cosine_similarity
from kdedge.training.teachers import Teacher
from kdedge.training.tune import MARGIN, cpu_has_bf16

__all__ = ["LEAST_COSINE", "tune_teacher"]

LEAST_COSINE = 0.9995
"""Between centred activations of both precisions, the worst of the images looked at; the cache promises 0.999."""


def tune_teacher(teacher: Teacher, images: NDArray[np.uint8], precision: str, say: Callable[[str], None]) -> str:
    """Set ``teacher.precision`` and return it; ``fp32`` for teachers that have none (ONNX).

    Args:
        images: fitted RGB images (B, size, size, 3), uint8, at least two different ones, to try it on.
        precision: ``fp32``, ``bf16`` (taken as it is) or ``auto``: bf16 if it takes at most four fifths of the time and its
            activations agree.

    Raises:
        RunError: bf16 was asked of a teacher that has no choice.
    """
    if not hasattr(teacher, "precision"):
        if precision == "bf16":
            raise RunError(f"{teacher.name}: an ONNX teacher computes as its file says; leave out --teacher-precision.")
        return "fp32"
    if precision == "auto":
        on_cpu = not torch.cuda.is_available()
        precision = "fp32" if on_cpu and not cpu_has_bf16() else _faster(teacher, images, say)
    teacher.precision = precision
    return precision


def _faster(teacher: Teacher, images: NDArray[np.uint8], say: Callable[[str], None]) -> str:
    seconds: dict[str, float] = {}
    found: dict[str, NDArray[np.float32]] = {}
    for trial in range(3):
        for precision in ("fp32", "bf16"):
            teacher.precision = precision  # type: ignore[attr-defined]
            begun = time.perf_counter()
            found[precision] = teacher.embed(images)
            if trial:  # the first one warms up
                taken = time.perf_counter() - begun
                seconds[precision] = min(taken, seconds.get(precision, taken))
    exact, rough = (found[name] - found["fp32"].mean(0) for name in ("fp32", "bf16"))
    worst = min(cosine_similarity(a[None], b[None]) for a, b in zip(exact, rough, strict=True))
    chosen = "bf16" if seconds["bf16"] < MARGIN * seconds["fp32"] and worst >= LEAST_COSINE else "fp32"
    rates = ", ".join(f"{name} {len(images) / taken:.0f} images/s" for name, taken in seconds.items())
    say(f"teacher precision: {chosen} ({rates}, cosine {worst:.5f})")
    return chosen
