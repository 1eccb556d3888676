"""Where the time of ``Classifier.predict`` goes: decode, resize, normalise, inference, and the rest.

The stages are timed inside one and the same call, so they add up to it.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ModelError
from kdedge.preprocess import Image, Preprocess
from kdedge.progress import Progress
from kdedge.runtime.classifier import Classifier

__all__ = ["STAGES", "Stages", "stages", "synthetic_photograph"]

STAGES = ("decode", "resize", "normalise", "inference", "postprocess")

SECONDS = 2.0
"""After which no more calls of one image are timed, unless they are fewer than :data:`FEWEST`."""
FEWEST, WARMUP = 5, 3


@dataclass(frozen=True)
class Stages:
    """Calls of ``predict`` on one image file.

    Attributes:
        image: what it is called.
        width, height: pixels.
        bytes: size of the file.
        ms: samples of each of :data:`STAGES` and of ``end to end``, milliseconds. ``decode`` holds the reading of the file
            (from the page cache), ``postprocess`` everything that is in none of the others.
    """

    image: str
    width: int
    height: int
    bytes: int
    ms: dict[str, list[float]]

    def p50_ms(self, stage: str) -> float:
        """Median of a stage, milliseconds."""
        return statistics.median(self.ms[stage])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
            "p50_ms": {stage: self.p50_ms(stage) for stage in self.ms},
            "samples_ms": self.ms,
        }


class _Clocks:
    """Nanoseconds spent in each stage of the call that runs."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}

    def timed(self, stage: str, function: Any, *arguments: Any) -> Any:
        begun = time.perf_counter_ns()
        answer = function(*arguments)
        self.spent[stage] = self.spent.get(stage, 0) + time.perf_counter_ns() - begun
        return answer


class _TimedPreprocess(Preprocess):
    """The same preprocessing, with a clock around its steps."""

    clocks: _Clocks

    def load(self, source: str | Path | bytes) -> Image:
        found: Image = self.clocks.timed("load", super().load, source)
        return found

    def fit(self, image: Image) -> Image:
        found: Image = self.clocks.timed("resize", super().fit, image)
        return found

    def normalize(
        self, batch: NDArray[np.uint8] | Sequence[Image], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.clocks.timed("normalise", super().normalize, batch, out)
        return found


class _TimedSession:
    """The same session, with a clock around ``run``."""

    def __init__(self, session: Any, clocks: _Clocks) -> None:
        self._session, self._clocks = session, clocks

    def run(self, *arguments: Any) -> Any:
        return self._clocks.timed("inference", self._session.run, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def stages(
    model: str | Path,
    image: Path,
    threads: int | None = None,
    provider: str = "cpu",
    repeats: int = 100,
    name: str = "",
    progress: Progress | None = None,
) -> Stages:
    """Time the stages of ``predict(image)``.

    Args:
        model: an ONNX file with a card.
        image: an image file.
        threads, provider: as for :class:`kdedge.runtime.classifier.Classifier`.
        repeats: calls, at most; as many as :data:`SECONDS` allow, but no fewer than :data:`FEWEST`.
        name: what to call the image; its file's name by default.
        progress: called with (calls done, calls in all).

    Raises:
        DataError: the image cannot be decoded.
        ModelError, CardError: see :class:`kdedge.runtime.classifier.Classifier`.
    """
    with Classifier(model, threads, provider=provider) as classifier:
        clocks = _Clocks()
        plain = classifier.card.preprocess
        timed = _TimedPreprocess(*(getattr(plain, each.name) for each in fields(plain)))
        object.__setattr__(timed, "clocks", clocks)
        classifier.card = classifier.card.with_(preprocess=timed)
        classifier.session = _TimedSession(classifier.session, clocks)
        found: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "end to end")}
        begun = 0.0
        for call in range(-WARMUP, repeats):
            if call == 0:
                begun = time.monotonic()
            if call >= FEWEST and time.monotonic() - begun > SECONDS:
                break
            clocks.spent = {}
            start = time.perf_counter_ns()
            classifier.predict(image)
            total = time.perf_counter_ns() - start
            if call < 0:
                continue
            for stage, value in _split(clocks.spent, total).items():
                found[stage].append(value / 1e6)
            if progress:
                progress(call + 1, repeats)
        if progress:
            progress(repeats, repeats)
    height, width = _size(image)
    return Stages(name or image.name, width, height, image.stat().st_size, found)


def _split(spent: dict[str, int], total: int) -> dict[str, int]:
    missing = {"load", "normalise", "inference"} - spent.keys()
    if missing:
        raise ModelError(
            f"the classifier no longer goes through {', '.join(sorted(missing))}; the stages cannot be told."
        )
    resize = spent.get("resize", 0)
    rest = total - spent["load"] - spent["normalise"] - spent["inference"]
    parts = (spent["load"] - resize, resize, spent["normalise"], spent["inference"], rest, total)
    return dict(zip((*STAGES, "end to end"), parts, strict=True))


def _size(image: Path) -> tuple[int, int]:
    """Height and width as they are stored."""
    pixels = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
    return (int(pixels.shape[0]), int(pixels.shape[1])) if pixels is not None else (0, 0)


def synthetic_photograph(path: Path, width: int, height: int) -> Path:
    """Write a JPEG (quality 90) with detail at all scales, as photographs have it: noise whose power falls with frequency."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 110.0, np.float32)
    for scale, strength in ((4, 40.0), (16, 25.0), (64, 15.0), (256, 8.0), (1024, 4.0)):
        if scale <= max(width, height):
            small = rng.standard_normal((max(2, scale * height // width), scale, 3), np.float32)
            image += strength * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path
