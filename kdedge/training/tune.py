"""What is faster on this machine, measured at start: precision, memory layout, threads, compilation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kdedge.training.engine import Engine, usable_cores

__all__ = ["Tuned", "faster_precision", "tune"]

Step = Callable[[Engine], None]
"""One training step with an engine, on a network that is thrown away afterwards."""

MARGIN = 0.8
"""A less exact or less usual choice must take at most this share of the time."""


@dataclass(frozen=True)
class Tuned:
    """The engine that was chosen, and the milliseconds of a step that it was chosen by."""

    engine: Engine
    threads: int
    milliseconds: dict[str, float]

    def words(self) -> str:
        """The measurement in a line, e.g. ``fp32 channels_last 41 ms, bf16 channels_last 12 ms``."""
        return ", ".join(f"{name} {value:.0f} ms" for name, value in self.milliseconds.items())


def tune(
    engine: Engine,
    step: Step,
    precision: str = "auto",
    *,
    compiled: bool | None = False,
    layout: str = "auto",
    fixed_threads: bool = False,
) -> Tuned:
    """Time training steps and choose.

    On a CPU: fp32 or bf16, channels last or not, and all cores or half of them where there are at least four. On a GPU:
    bf16 and channels last, which their matrix units are made for, are taken unasked; whether compilation pays is measured.
    CPUs without bf16 instructions are not asked: emulation is slow and never wins.

    Args:
        step: called with each candidate.
        precision: ``fp32`` or ``bf16`` to leave that choice out.
        compiled: None to measure it on a GPU (and not to compile on a CPU).
        layout: ``channels_last`` or ``contiguous`` to leave that choice out.
        fixed_threads: leave the number of threads as it is.
    """
    if engine.device.type != "cpu":
        engine = replace(engine, precision="bf16" if precision == "auto" else precision)
        if compiled is None:
            taken = _measure({"eager": engine, "compiled": replace(engine, compiled=True)}, step)
            faster = taken["compiled"] < 0.95 * taken["eager"]
            return Tuned(replace(engine, compiled=faster), torch.get_num_threads(), taken)
        return Tuned(replace(engine, compiled=compiled), torch.get_num_threads(), {})
    engine = replace(engine, compiled=bool(compiled))
    precisions = [precision] if precision != "auto" else ["fp32", *(["bf16"] if cpu_has_bf16() else [])]
    layouts = ["channels_last", "contiguous"] if layout == "auto" else [layout]
    candidates = {
        f"{name} {form}": replace(engine, precision=name, channels_last=form == "channels_last")
        for name in precisions
        for form in layouts
    }
    taken = _measure(candidates, step)
    usual = f"{precisions[0]} {layouts[0]}"
    best = min(taken, key=lambda name: taken[name])
    chosen = best if taken[best] < MARGIN * taken[usual] else usual
    threads, cores = torch.get_num_threads(), usable_cores()
    if threads == cores >= 4 and not fixed_threads:
        torch.set_num_threads(cores // 2)
        half = _measure({f"{cores // 2} threads": candidates[chosen]}, step)
        taken |= half
        if min(half.values()) > 0.95 * taken[chosen]:
            torch.set_num_threads(threads)
    return Tuned(candidates[chosen], torch.get_num_threads(), taken)


def faster_precision(engine: Engine, step: Step) -> str:
    """``bf16`` where it is clearly faster than ``fp32``, both channels last."""
    if engine.device.type == "cpu" and not cpu_has_bf16():
        return "fp32"
    taken = _measure({name: replace(engine, precision=name) for name in ("fp32", "bf16")}, step)
    return "bf16" if taken["bf16"] < MARGIN * taken["fp32"] else "fp32"


def _measure(candidates: dict[str, Engine], step: Step, trials: int = 3) -> dict[str, float]:
    """Milliseconds of a step, in turns: the fastest counts, since other work on the machine only ever slows one down.

    What took twice as long as the best in the first turn is not asked again.
    """
    taken: dict[str, float] = {}
    names: Sequence[str] = list(candidates)
    for name in names:
        step(candidates[name])  # the first one warms up
        candidates[name].finish()
    for trial in range(trials):
        for name in names:
            begun = time.perf_counter()
            step(candidates[name])
            candidates[name].finish()
            now = 1000 * (time.perf_counter() - begun)
            taken[name] = min(now, taken.get(name, now))
        if trial == 0:
            names = [name for name in names if taken[name] < 2 * min(taken.values())]
    return taken


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16 (Linux says so; elsewhere no)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))
