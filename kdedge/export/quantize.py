"""Static int8 quantisation of an fp32 ONNX file."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import kdedge
from kdedge.errors import ExportError
from kdedge.export.calibrate import METHODS, Range, choose_range, collect
from kdedge.export.graph import clean
from kdedge.export.headroom import give_headroom
from kdedge.export.quiet import quiet
from kdedge.export.session import onnx_logits
from kdedge.export.targets import Target, target_for
from kdedge.export.verify import parity
from kdedge.files import atomic_path
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["Method", "Quantized", "check_method", "quantize_int8"]

Method = Literal["auto", "minmax", "percentile", "mse"]

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_ACTIVATION_FUNCTIONS = frozenset({"Relu", "Clip"})
_KEEP_SCALE = frozenset({"AveragePool", "Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output must be quantised as their input is."""


@dataclass(frozen=True)
class Quantized:
    """How a file was quantised.

    Attributes:
        method: the calibration that was used; the one that won if ``auto`` was asked for.
        images: how many were calibrated on.
        target: the device profile.
        candidates: for ``auto``, the mean cosine with the fp32 logits that each calibration reached.
    """

    method: str
    images: int
    target: Target
    candidates: Mapping[str, float] = field(default_factory=dict)


def check_method(method: str) -> Method:
    """``method``, if it is a known calibration; ExportError otherwise."""
    for known in get_args(Method):
        if method == known:
            return known  # type: ignore[no-any-return]
    raise ExportError(f"calibration {method!r} is not known; choose one of {', '.join(get_args(Method))}.")


def quantize_int8(
    fp32_path: Path,
    out_path: Path,
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    method: Method = "mse",
    *,
    heldout: NDArray[np.uint8] | None = None,
    target: Target | None = None,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> Quantized:
    """Write the int8 form of an fp32 file, atomically. Logits stay float, all that leads to them becomes int8.

    Args:
        images: calibration images, fitted RGB, uint8, (N, size, size, 3).
        method: how the range of an activation is chosen (see :func:`kdedge.export.calibrate.choose_range`); ``auto``
            tries every way and keeps the one whose logits have the largest mean cosine with fp32's on ``heldout``.
        heldout: images for ``auto``, same kind as ``images``, none of which was calibrated on.
        exclude: names of nodes that stay float.

    Raises:
        ExportError: no calibration images, ``auto`` without held-out images, or the quantiser failed.
    """
    check_method(method)
    if not len(images):
        raise ExportError("int8 needs calibration images, none were given.")
    if method == "auto" and (heldout is None or not len(heldout)):
        raise ExportError("calibration 'auto' needs held-out images to choose by; name a calibration instead.")
    target = target or target_for("x86")
    with TemporaryDirectory(prefix="kdedge-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        with quiet():
            quant_pre_process(str(fp32_path), str(prepared), skip_symbolic_shape=True)
        seen = collect(prepared, images, preprocess, progress)
        made: dict[str, Path] = {}
        for kind in METHODS if method == "auto" else (method,):
            made[kind] = Path(folder) / f"{kind}.onnx"
            ranges = {name: choose_range(activation, kind) for name, activation in seen.items()}
            one = preprocess.normalize(images[:1])
            _quantize(prepared, made[kind], ranges, one, target, exclude)
        scores: dict[str, float] = {}
        if method == "auto" and heldout is not None:
            reference = onnx_logits(fp32_path, heldout, preprocess)
            scores = {
                kind: parity(reference, onnx_logits(path, heldout, preprocess)).cosine for kind, path in made.items()
            }
        best = max(made, key=lambda kind: scores.get(kind, 0.0))
        with atomic_path(out_path) as temporary:
            shutil.copyfile(made[best], temporary)
    return Quantized(best, len(images), target, scores)


class _Once(CalibrationDataReader):  # type: ignore[misc]
    """One input: the quantiser insists on a calibration of its own even where every range is given."""

    def __init__(self, name: str, value: NDArray[np.float32]) -> None:
        self._left: list[dict[str, Any]] = [{name: value}]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def _quantize(
    source: Path,
    out: Path,
    ranges: Mapping[str, Range],
    one: NDArray[np.float32],
    target: Target,
    exclude: Sequence[str],
) -> None:
    graph = onnx.load(source).graph
    try:
        with quiet():
            quantize_static(
                str(source),
                str(out),
                _Once(graph.input[0].name, one),
                quant_format=QuantFormat.QDQ,
                activation_type=_TYPES[target.activations],
                weight_type=_TYPES[target.weights],
                per_channel=target.per_channel,
                reduce_range=target.reduce_range,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=list(exclude),
                extra_options={
                    "TensorQuantOverrides": _overrides(graph, ranges),
                    # 256 steps are too coarse for probabilities, and the next reader of the logits is no int8 kernel
                    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                },
            )
            model = onnx.load(out)
            give_headroom(model)
            clean(model, kdedge.__version__)
            onnx.save(model, out)
    except Exception as error:  # onnxruntime's quantiser raises whatever its insides raise
        raise ExportError(f"the quantiser failed: {str(error).strip() or type(error).__name__}") from error


def _overrides(graph: onnx.GraphProto, ranges: Mapping[str, Range]) -> dict[str, list[dict[str, Any]]]:
    readers = Counter(name for node in graph.node for name in node.input)
    producer = {name: node.op_type for node in graph.node for name in node.output}
    chosen = {name: span for name, span in ranges.items() if producer.get(name) not in _KEEP_SCALE}
    for node in graph.node:
        # a ReLU read by nobody else disappears into the integers of its convolution: those must be the ReLU's
        if node.op_type in _ACTIVATION_FUNCTIONS and readers[node.input[0]] == 1 and node.output[0] in ranges:
            chosen[node.input[0]] = ranges[node.output[0]]
    return {
        name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
        for name, (low, high) in chosen.items()
        if high > low
    }
