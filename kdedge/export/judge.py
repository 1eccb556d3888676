"""What an int8 file lost against fp32, in points of accuracy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.export.inference import onnx_outputs
from kdedge.export.outputs import Outputs
from kdedge.export.verify import Parity, compare
from kdedge.preprocess import Preprocess

__all__ = ["ENOUGH_LABELS", "Judge", "Verdict"]

ENOUGH_LABELS = 100
"""Labelled images below which one of them would count more than a point."""


@dataclass(frozen=True)
class Verdict:
    """What was found of a file.

    Attributes:
        drop: points (0-100) of accuracy lost; negative if it gained.
        measured_by: ``accuracy`` on labelled images, or ``agreement``, see :class:`Judge`.
        images: how many were looked at.
        accuracy: of the file on the labelled images, 0-1; None with too few of them.
        parity: agreement with fp32 on all held-out images.
    """

    drop: float
    measured_by: str
    images: int
    accuracy: float | None
    parity: Parity

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "drop_points": self.drop,
            "measured_by": self.measured_by,
            "images": self.images,
            "accuracy": self.accuracy,
            "parity": self.parity.to_dict(),
        }


@dataclass(frozen=True)
class Judge:
    """Compares files with fp32 on held-out images.

    With at least :data:`ENOUGH_LABELS` labelled images the drop is that of the accuracy. Otherwise it is told from
    agreement: on each image, the fp32 probability of fp32's first class less that of the int8 file's first class, so
    that a change of mind costs as much as fp32 was sure. If fp32's probabilities are right, that is the expected loss of
    accuracy.

    Attributes:
        images: fitted RGB, uint8, (N, size, size, 3), never trained or calibrated on.
        labels: (N,) index of the class, -1 where it is not known.
        reference: what the fp32 file gives for the images.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    reference: Outputs
    preprocess: Preprocess

    @property
    def by_accuracy(self) -> bool:
        """Whether there are labels enough."""
        return int((self.labels >= 0).sum()) >= ENOUGH_LABELS

    def accuracy(self, outputs: Outputs) -> float | None:
        """Share of the labelled images that ``outputs`` are right on; None with too few of them."""
        if not self.by_accuracy:
            return None
        known = self.labels >= 0
        return float((outputs.logits.argmax(1)[known] == self.labels[known]).mean())

    def look(self, path: Path) -> Verdict:
        """Run the file on the held-out images; raises ExportError if its answers are not finite."""
        found = onnx_outputs(path, self.images, self.preprocess)
        parity = compare(self.reference, found)
        before, after = self.accuracy(self.reference), self.accuracy(found)
        if before is not None and after is not None:
            return Verdict(100 * (before - after), "accuracy", int((self.labels >= 0).sum()), after, parity)
        return Verdict(100 * _expected_loss(self.reference, found), "agreement", len(self.images), None, parity)


def _expected_loss(reference: Outputs, found: Outputs) -> float:
    wide = reference.logits.astype(np.float64)
    shares = np.exp(wide - wide.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    rows = np.arange(len(shares))
    lost = shares[rows, wide.argmax(1)] - shares[rows, found.logits.argmax(1)]
    return float(lost.mean())
