"""Which calibration suits a network: the one whose int8 file agrees best with fp32 on images it was not calibrated on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.inference import onnx_outputs
from kdedge.export.outputs import Outputs
from kdedge.export.quantize import Method, Quantizer
from kdedge.export.ranges import METHODS, Calibration
from kdedge.export.verify import Parity, compare
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["Choice", "choose_calibration"]


@dataclass(frozen=True)
class Choice:
    """A calibration, and the agreement of each that was tried.

    Attributes:
        method: the one with the smallest divergence from fp32's probabilities (see :func:`choose_calibration`).
        table: by method; empty if it was named instead of chosen.
    """

    method: Calibration
    table: dict[str, Parity]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"method": self.method, "table": {name: found.to_dict() for name, found in self.table.items()}}


def choose_calibration(
    quantizer: Quantizer,
    method: Method,
    heldout: NDArray[np.uint8],
    reference: Outputs,
    preprocess: Preprocess,
    folder: Path,
    progress: Progress | None = None,
    *,
    least: float = 0.0,
) -> Choice:
    """``method`` itself, or for ``auto`` the calibration of the smallest mean KL divergence from fp32.

    Top-1 agreement, which moves in steps of one image, cannot tell good calibrations apart; the divergence can. But one
    that agrees on less than ``least`` of the images is taken only if all do.

    Args:
        heldout: images to judge on, fitted RGB, uint8, (N, size, size, 3), none of which was calibrated on.
        reference: what the fp32 file gives for them.
        folder: takes the files that are tried.

    Raises:
        ExportError: ``auto`` without held-out images.
    """
    if method != "auto":
        return Choice(method, {})
    if not len(heldout):
        raise ExportError("calibration 'auto' needs held-out images to choose by; name a calibration instead.")
    table: dict[str, Parity] = {}
    for number, kind in enumerate(METHODS):
        path = folder / f"{kind}.onnx"
        quantizer.write(path, kind)
        table[kind] = compare(reference, onnx_outputs(path, heldout, preprocess))
        path.unlink()
        if progress:
            progress(number + 1, len(METHODS))
    agreeing = [kind for kind in METHODS if table[kind].top1_agreement >= least]
    return Choice(min(agreeing or METHODS, key=lambda kind: table[kind].kl), table)
