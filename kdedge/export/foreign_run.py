"""Running a network from elsewhere on random images, to see what it gives and that nothing changed it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.quiet import quiet

__all__ = [
    "TOLERANCE",
    "Images",
    "Run",
    "batch_of",
    "check_same",
    "open_network",
    "probe",
    "relative_error",
    "silent_options",
    "softmax",
]

TOLERANCE = 1e-4
"""Largest error of a normalised network, as a share of the largest value of the same image's output."""

_FATAL = 4

Images = NDArray[np.float32]
"""Float32, (N, 3, S, S)."""

Run = Callable[[Images], dict[str, NDArray[Any]]]
"""From images to the tensors that were asked for, by name."""


def probe(size: int, count: int) -> Images:
    """Random images (count, 3, size, size) in the three usual ranges in turn: about -2 to 2, 0 to 1, 0 to 255."""
    random = np.random.default_rng(0)
    noise = random.uniform(0, 1, (count, 3, size, size)).astype(np.float32)
    noise[0::3] = noise[0::3] * 4 - 2
    noise[2::3] *= 255
    return noise


def batch_of(model: onnx.ModelProto) -> int:
    """Images a run that the input fixes; 0 if any number."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return max(int(dims[0].dim_value), 0) if dims else 0


def silent_options() -> onnxruntime.SessionOptions:
    """Options of a session whose failures are reported by who started it, not printed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # what the file says, not onnxruntime's faster and coarser products of integer weights
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_network(model: onnx.ModelProto, names: Sequence[str], *, batch: int = 0, nhwc: bool = False) -> Run:
    """Load ``model`` with onnxruntime.

    Args:
        names: tensors to return, outputs or not.
        batch: images a run, the last run filled up; 0 gives all images to one run.
        nhwc: the network takes (N, S, S, 3); it is given the same images, turned.

    Raises:
        Exception: onnxruntime cannot load it; its errors have no common base.
    """
    outputs = model.graph.output
    present = [value.name for value in outputs]
    outputs.extend(onnx.helper.make_empty_tensor_value_info(n) for n in dict.fromkeys(names) if n not in present)
    data = model.SerializeToString()
    del outputs[len(present) :]
    with quiet():
        session = onnxruntime.InferenceSession(data, silent_options(), providers=["CPUExecutionProvider"])
    hush = onnxruntime.RunOptions()
    hush.log_severity_level = _FATAL
    entry = model.graph.input[0].name

    def run(images: Images) -> dict[str, NDArray[Any]]:
        step = batch or len(images)
        parts = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], step - len(chunk), 0)])
            turned = np.ascontiguousarray(filled.transpose(0, 2, 3, 1)) if nhwc else filled
            values = session.run(list(names), {entry: turned}, hush)
            parts.append(
                [value[: len(chunk)] if value.shape[:1] == (step,) else np.atleast_1d(value) for value in values]
            )
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}

    return run


def softmax(values: NDArray[Any]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    powers = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return result


def relative_error(reference: NDArray[Any], values: NDArray[Any]) -> float:
    """Largest difference over the images (N, ...), each as a share of the largest value of its reference."""
    a, b = (np.asarray(value, np.float64).reshape(len(value), -1) for value in (reference, values))
    if a.shape != b.shape:
        return float("inf")
    scale = np.abs(a).max(1)
    error = np.abs(a - b).max(1) / np.where(scale > 0, scale, 1.0)
    return float(np.where(np.isfinite(error), error, np.inf).max())


def check_same(reference: NDArray[Any], values: NDArray[Any], what: str, path: Path) -> None:
    """Raise ExportError if ``values`` differ from ``reference``, both (N, ...), by more than :data:`TOLERANCE`."""
    error = relative_error(reference, values)
    if error > TOLERANCE:
        raise ExportError(
            f"{path}: once brought into kdedge's form the network gives other {what} (relative error {error:.1e} on random "
            f"images, at most {TOLERANCE:.0e} is allowed), so it cannot be exported; nothing was written."
        )
