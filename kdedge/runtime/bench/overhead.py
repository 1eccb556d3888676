"""What :class:`kdedge.runtime.classifier.Classifier` adds around ``session.run``, in microseconds."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.progress import Progress
from kdedge.runtime.bench.stats import median_difference
from kdedge.runtime.classifier import Classifier

__all__ = ["Overhead", "overhead"]

WARMUP = 20


@dataclass(frozen=True)
class Overhead:
    """What ``Classifier`` adds around ``session.run``, without decoding: normalise, checks, softmax, sort, the answer.

    Attributes:
        run_ms, predict_ms: samples, made in pairs, milliseconds.
        microseconds: median of the one minus median of the other.
        low, high: ends of its 95 % interval (bootstrap over pairs), microseconds.
        paired_microseconds: median of the differences inside the pairs; where it is far from the other, the machine changed
            its pace meanwhile.
    """

    run_ms: tuple[float, ...]
    predict_ms: tuple[float, ...]
    microseconds: float
    low: float
    high: float

    @property
    def run_p50_ms(self) -> float:
        """Median of the bare ``session.run``, milliseconds."""
        return statistics.median(self.run_ms)

    @property
    def paired_microseconds(self) -> float:
        """See above."""
        pairs = zip(self.run_ms, self.predict_ms, strict=True)
        return 1000.0 * statistics.median(predict - run for run, predict in pairs)

    @property
    def share(self) -> float:
        """Of that median, 1 being as much again."""
        return self.microseconds / 1000.0 / self.run_p50_ms

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "run_p50_ms": self.run_p50_ms,
            "predict_p50_ms": statistics.median(self.predict_ms),
            "microseconds": self.microseconds,
            "interval": [self.low, self.high],
            "paired_microseconds": self.paired_microseconds,
            "share": self.share,
            "pairs": len(self.run_ms),
            "run_samples_ms": list(self.run_ms),
            "predict_samples_ms": list(self.predict_ms),
        }


def overhead(
    model: str | Path,
    threads: int | None = None,
    provider: str = "cpu",
    pairs: int = 500,
    progress: Progress | None = None,
) -> Overhead:
    """Time ``predict_fitted`` on one image beside the bare ``session.run`` of the same session on the same input.

    The two take turns run by run, and their order is turned round every time.

    Args:
        model: an ONNX file with a card.
        threads, provider: as for :class:`kdedge.runtime.classifier.Classifier`.
        pairs: timed runs of each.
        progress: called with (pairs done, pairs in all).

    Raises:
        ModelError, CardError: see :class:`kdedge.runtime.classifier.Classifier`.
    """
    with Classifier(model, threads, provider=provider) as classifier:
        preprocess, session = classifier.card.preprocess, classifier.session
        given = session.get_inputs()[0]
        images = given.shape[0] if isinstance(given.shape[0], int) else 1
        rng = np.random.default_rng(0)
        fitted = rng.integers(0, 256, (images, preprocess.size, preprocess.size, 3), np.uint8)
        batch = preprocess.normalize(fitted)
        outputs, feed = [classifier.card.answer or session.get_outputs()[0].name], {given.name: batch}
        times: tuple[list[float], list[float]] = ([], [])
        for pair in range(-WARMUP, pairs):
            for which in (0, 1) if pair % 2 else (1, 0):
                begun = time.perf_counter_ns()
                if which:
                    classifier.predict_fitted(fitted)
                else:
                    session.run(outputs, feed)
                taken = (time.perf_counter_ns() - begun) / 1e6
                if pair >= 0:
                    times[which].append(taken)
            if progress and pair >= 0 and pair % 20 == 19:
                progress(pair + 1, pairs)
    middle, low, high = (1000.0 * value for value in median_difference(*times))
    return Overhead(tuple(times[0]), tuple(times[1]), middle, low, high)
