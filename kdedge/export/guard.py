"""The search for an int8 file that keeps its promises, bounded in time.

First the network as it is; if it loses too much, with its biases corrected; then with the layers whose quantisation
costs most left in float, the worst first, as few as will do. A file that keeps the accuracy is timed. Where it is
too slow, layers beside operators without int8 kernels go back to float, since changing to and from integers there costs
more than it gains.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.effects import gains
from kdedge.export.judge import Judge, Verdict
from kdedge.export.quantize import WEIGHTED, Quantizer
from kdedge.export.ranges import Calibration
from kdedge.export.sensitivity import LayerError, layer_errors
from kdedge.export.speed import Speed
from kdedge.progress import Progress

__all__ = ["Attempt", "Guarded", "Limits", "guard"]

Timing = Callable[[Path], Speed | None]
"""Times a file against fp32; None where this machine cannot."""

_ROUNDING = 1e-6
"""Points that a difference of two shares may be off."""

_INTEGER = frozenset(
    (
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Conv",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "MatMul",
        "MaxPool",
        "Mul",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operators that onnxruntime's CPU provider computes on integers."""


@dataclass(frozen=True)
class Limits:
    """What an int8 file must keep.

    Attributes:
        max_drop: points of accuracy (0-100) it may lose against fp32.
        min_speedup: least ratio of the fp32 file's latency to its own; 0 does not measure.
        min_agreement: least share of held-out images with the same first class as fp32, whatever the drop.
        min_cosine: least mean cosine of the embeddings.
        seconds: how long the search may take; a file that is being made is finished.
    """

    max_drop: float = 1.0
    min_speedup: float = 1.0
    min_agreement: float = 0.9
    min_cosine: float = 0.9
    seconds: float = 300.0

    def check(self) -> None:
        """Raise ExportError, naming the option, for a limit that is no sensible number."""
        for option, value, least, most in (
            ("--max-drop", self.max_drop, 0.0, 100.0),
            ("--min-speedup", self.min_speedup, 0.0, 1000.0),
            ("--min-agreement", self.min_agreement, 0.0, 1.0),
            ("--search-minutes", self.seconds / 60, 0.0, 24.0 * 60),
        ):
            if not least <= value <= most:
                raise ExportError(f"{option} is {value:g}; give a number from {least:g} to {most:g}.")

    def why_not(self, found: Verdict) -> str:
        """What is wrong with the answers of a file, in words; empty if nothing."""
        close = found.parity
        if found.drop > self.max_drop + _ROUNDING:
            return f"loses {found.drop:.2f} points of accuracy, at most {self.max_drop:g} are allowed"
        if close.top1_agreement < self.min_agreement:
            return f"gives {close.top1_agreement:.1%} of the images the same label as fp32, {self.min_agreement:.0%} are asked"
        if close.embedding_cosine is not None and close.embedding_cosine < self.min_cosine:
            return f"has embeddings of cosine {close.embedding_cosine:.3f} to fp32's, {self.min_cosine:g} is asked"
        return ""


@dataclass(frozen=True)
class Attempt:
    """One file of the search.

    Attributes:
        left_float: layers that were left in float.
        corrected: whether biases were corrected.
        found: its answers against fp32's.
        speed: its time against fp32's; None if it was not timed.
        why_not: what is wrong with it; empty for the file that was taken.
    """

    left_float: tuple[str, ...]
    corrected: bool
    found: Verdict
    speed: Speed | None
    why_not: str

    def words(self) -> str:
        """In a few words, for a progress line or a table."""
        how = ["biases corrected"] if self.corrected else []
        if self.left_float:
            how.append(f"{len(self.left_float)} layers in float" if len(self.left_float) > 1 else "1 layer in float")
        return ", ".join(how) or "all layers in int8"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "left_float": list(self.left_float),
            "bias_corrected": self.corrected,
            **self.found.to_dict(),
            "speedup": self.speed.to_dict() if self.speed else None,
            "why_not": self.why_not,
        }


@dataclass(frozen=True)
class Guarded:
    """What the search came to.

    Attributes:
        path: the int8 file; None if none holds.
        last: the last file that was made, for a look at it if none holds.
        attempts: in the order they were made.
        taken: the one that counts: that of ``path``; if none holds, the last one.
        ranking: what each layer costs (see :func:`kdedge.export.effects.gains`), most first; empty if it was not needed.
        why_not: why there is none; empty if there is one.
    """

    path: Path | None
    last: Path
    attempts: tuple[Attempt, ...]
    taken: Attempt
    ranking: Mapping[str, float] = field(default_factory=dict)
    why_not: str = ""


class _Search:
    def __init__(
        self, quantizer: Quantizer, method: Calibration, judge: Judge, timing: Timing, limits: Limits, folder: Path
    ) -> None:
        self.quantizer, self.method, self.judge = quantizer, method, judge
        self.timing, self.limits, self.folder = timing, limits, folder
        self.attempts: list[Attempt] = []
        self.paths: list[Path] = []
        self.shifts: Mapping[str, NDArray[np.float64]] = {}
        self.began = time.monotonic()
        self.tell: Callable[[str], None] = lambda _: None

    def in_time(self) -> bool:
        return time.monotonic() - self.began < self.limits.seconds

    def fewest(self) -> int | None:
        """Number of the attempt that holds with the fewest layers in float, the later of equals; None if none holds."""
        holding = [number for number, attempt in enumerate(self.attempts) if not attempt.why_not]
        return min(holding, key=lambda number: (len(self.attempts[number].left_float), -number), default=None)

    def try_(self, left_float: Collection[str]) -> tuple[Path, Attempt]:
        """Make and judge a file; time it if its answers are good."""
        path = self.folder / f"attempt-{len(self.attempts)}.onnx"
        self.quantizer.write(path, self.method, left_float, self.shifts)
        found = self.judge.look(path)
        why_not, speed = self.limits.why_not(found), None
        if not why_not and self.limits.min_speedup:
            speed = self.timing(path)
            if speed and speed.ratio < self.limits.min_speedup:
                why_not = f"is {speed.ratio:.2f} times as fast as fp32 here, {self.limits.min_speedup:g} times is asked"
        attempt = Attempt(tuple(left_float), bool(self.shifts), found, speed, why_not)
        self.attempts.append(attempt)
        self.paths.append(path)
        self.tell(f"{attempt.words()}: {why_not or 'holds'}")
        return path, attempt


def guard(
    quantizer: Quantizer,
    method: Calibration,
    judge: Judge,
    timing: Timing,
    limits: Limits,
    images: NDArray[np.uint8],
    folder: Path,
    progress: Progress | None = None,
) -> Guarded:
    """Find an int8 file within ``limits``.

    Args:
        images: some calibration images, fitted RGB, uint8, (N, size, size, 3), to measure each layer's error on.
        folder: takes the files that are tried.
        progress: told of the seconds that passed, of ``limits.seconds``, and of what was tried.
    """
    search = _Search(quantizer, method, judge, timing, limits, folder)
    whole = max(1, round(limits.seconds))
    if progress:
        search.tell = lambda words: progress(min(whole, int(time.monotonic() - search.began)), whole, words)
    path, attempt = search.try_(())
    errors: list[LayerError] = []
    cost: dict[str, float] = {}
    if limits.why_not(attempt.found):
        errors = layer_errors(quantizer.prepared, path, images, judge.preprocess)
        search.shifts = {layer.name: layer.shift for layer in errors}
        before = attempt
        if search.in_time():
            path, attempt = search.try_(())
        if attempt.found.parity.kl > before.found.parity.kl:
            search.shifts = {}  # it did not help
        if limits.why_not(attempt.found) and search.in_time():
            search.tell("ranking the layers by what they cost")
            half = search.began + limits.seconds / 2
            names = [layer.name for layer in errors]
            cost = gains(quantizer.prepared, path, names, images, judge.preprocess, lambda: time.monotonic() < half)
            worst = sorted(names, key=lambda name: -cost.get(name, 0.0))
            path, attempt = _leave_out(search, worst, path, attempt)
    good = search.fewest()
    if good is None and attempt.speed and search.in_time():
        beside = _beside_float(onnx.load(quantizer.prepared).graph)
        left = sorted(beside | set(attempt.left_float))
        if 0 < len(left) < len(quantizer.layers()) / 2:
            search.try_(left)
            good = search.fewest()
    number = len(search.attempts) - 1 if good is None else good
    path, attempt = search.paths[number], search.attempts[number]
    if progress:
        progress(whole, whole, attempt.words() if good is not None else "none holds")
    ranking = dict(sorted(cost.items(), key=lambda item: -item[1]))
    attempts = tuple(search.attempts)
    if good is None:
        late = "" if search.in_time() else f" (the search was stopped after {limits.seconds:g} s)"
        return Guarded(None, path, attempts, attempt, ranking, f"the int8 file {attempt.why_not}{late}")
    return Guarded(path, path, attempts, attempt, ranking)


def _leave_out(search: _Search, worst: list[str], path: Path, attempt: Attempt) -> tuple[Path, Attempt]:
    """Leave the first layers of ``worst`` in float, one, two, three, then in growing steps; then back as far as it goes."""
    failing, count, most = 0, 1, max(1, len(worst) // 2)  # with more of them in float int8 is not worth its while
    good: tuple[int, Path, Attempt] | None = None
    while count <= most and search.in_time():
        path, attempt = search.try_(worst[:count])
        if not search.limits.why_not(attempt.found):
            good = (count, path, attempt)
            break
        failing, count = count, count + max(1, count // 3)
        if failing < most < count:
            count = most
    while good and good[0] - failing > 1 and search.in_time():
        middle = (failing + good[0]) // 2
        tried = search.try_(worst[:middle])
        if search.limits.why_not(tried[1].found):
            failing = middle
        else:
            good = (middle, *tried)
    return (good[1], good[2]) if good else (path, attempt)


def _beside_float(graph: onnx.GraphProto) -> set[str]:
    """Layers that read from or write to an operator without an int8 kernel."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = set()
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        before = producer.get(node.input[0])
        around = [*([before] if before is not None else []), *readers.get(node.output[0], [])]
        if any(other.op_type not in _INTEGER for other in around):
            found.add(node.name)
    return found
