"""Static int8 quantisation of an fp32 ONNX file: prepared and calibrated once, written as often as one likes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

import kdedge
from kdedge.errors import ExportError
from kdedge.export.calibration_cache import Cached, calibrated
from kdedge.export.float_layers import read_float, with_makers
from kdedge.export.graph import clean
from kdedge.export.headroom import give_headroom
from kdedge.export.leave_float import keep_float
from kdedge.export.pictures import Pictures
from kdedge.export.quiet import quiet
from kdedge.export.ranges import METHODS, Calibration, Range, choose_range
from kdedge.export.targets import Target, target_for
from kdedge.export.tensorrt import float_outputs, join_activations
from kdedge.files import atomic_path
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["WEIGHTED", "Method", "Quantizer", "check_method", "quantize_int8"]

Method = Literal["auto", "minmax", "average", "percentile", "entropy", "mse"]

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators with weights: what stays float is told by them."""

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_ACTIVATION_FUNCTIONS = frozenset({"Relu", "Clip"})


def check_method(method: str) -> Method:
    """``method``, if it is a known calibration; ExportError otherwise."""
    for known in get_args(Method):
        if method == known:
            return known  # type: ignore[no-any-return]
    raise ExportError(f"calibration {method!r} is not known; choose one of {', '.join(get_args(Method))}.")


@dataclass(frozen=True)
class Quantizer:
    """An fp32 network ready to be quantised.

    Attributes:
        prepared: the network with folded constants, known shapes and a name for every node.
        cached: what was seen of its activations.
        target: the device profile.
    """

    prepared: Path
    cached: Cached
    target: Target

    @classmethod
    def prepare(
        cls,
        fp32: Path,
        folder: Path,
        pictures: Pictures,
        preprocess: Preprocess,
        target: Target,
        progress: Progress | None = None,
    ) -> "Quantizer":
        """Fold, name and calibrate the network of the file ``fp32``; ``folder`` takes the files this needs.

        Raises:
            ExportError: no calibration images, or the network cannot be prepared.
        """
        if not len(pictures):
            raise ExportError("int8 needs calibration images, none were given.")
        prepared = folder / "prepared.onnx"
        try:
            with quiet():
                quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        except Exception as error:  # whatever the insides of onnxruntime raise
            raise ExportError(f"the network cannot be prepared for int8: {_first(error)}") from error
        _name_nodes(prepared)
        cached = calibrated(prepared, pictures, preprocess, progress)
        return cls(prepared, cached, target)

    def layers(self) -> list[str]:
        """Names of the nodes with weights, in the order they run."""
        return [node.name for node in onnx.load(self.prepared).graph.node if node.op_type in WEIGHTED]

    def write(
        self,
        out: Path,
        method: Calibration,
        left_float: Collection[str] = (),
        shifts: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> None:
        """Write the int8 file. The logits stay float, all that leads to them becomes int8.

        Args:
            method: how the range of an activation is chosen (see :func:`kdedge.export.ranges.choose_range`).
            left_float: names of layers whose input and weights stay float.
            shifts: name of a node with weights to what is taken off its bias, a number a channel.

        Raises:
            ExportError: the quantiser failed.
        """
        symmetric = self.target.symmetric
        ranges = {
            name: choose_range(activation, method, symmetric=symmetric)
            for name, activation in self.cached.collected.activations.items()
        }
        source = self.prepared
        float_nodes = with_makers(onnx.load(source).graph, left_float)
        with TemporaryDirectory(prefix="kdedge-") as folder:
            if shifts:
                source = Path(folder) / "shifted.onnx"
                shift_biases(self.prepared, source, {k: v for k, v in shifts.items() if k not in float_nodes})
            try:
                with quiet():
                    model = self._quantize(source, ranges, float_nodes)
                    if symmetric:
                        join_activations(model)
                    float_outputs(model, None if symmetric else 1)
                    if left_float:
                        read_float(model, left_float, onnx.load(source))
                    if self.target.on_cpu:
                        keep_float(model, float_nodes)
                    give_headroom(model)
                    clean(model, kdedge.__version__, self.target.ir_version)
                    onnx.save(model, out)
            except Exception as error:  # onnxruntime's quantiser raises whatever its insides raise
                raise ExportError(f"the quantiser failed: {_first(error)}") from error

    def _quantize(self, source: Path, ranges: Mapping[str, Range], left_float: Collection[str]) -> onnx.ModelProto:
        model = onnx.load(source)
        quantizer = QDQQuantizer(
            model,
            self.target.per_channel,
            self.target.reduce_range,
            _TYPES[self.target.weights],
            _TYPES[self.target.activations],
            TensorsData(CalibrationMethod.MinMax, _spans(model.graph, ranges)),
            [],
            list(left_float),
            sorted({*QLinearOpsRegistry, *QDQRegistry}),
            {
                "ActivationSymmetric": self.target.symmetric,
                "AddQDQPairToWeight": self.target.weights_as_float,
                "QuantizeBias": self.target.quantize_bias,
                # 256 steps are too coarse for probabilities, and the next reader of the logits is no int8 kernel
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        quantised: onnx.ModelProto = quantizer.model.model
        return quantised


def quantize_int8(
    fp32_path: Path,
    out_path: Path,
    images: Pictures | NDArray[np.uint8],
    preprocess: Preprocess,
    method: Calibration = "mse",
    *,
    target: Target | None = None,
    left_float: Collection[str] = (),
    progress: Progress | None = None,
) -> None:
    """Write the int8 form of an fp32 file, atomically, without a look at what it is worth.

    Args:
        images: calibration images; an array holds fitted RGB ones, uint8, (N, size, size, 3).
        left_float: names of nodes that stay float.

    Raises:
        ExportError: no calibration images, unknown method, or the quantiser failed.
    """
    if method not in METHODS:
        raise ExportError(f"calibration {method!r} is not known; choose one of {', '.join(METHODS)}.")
    pictures = images if isinstance(images, Pictures) else Pictures(images, preprocess)
    with TemporaryDirectory(prefix="kdedge-") as folder, atomic_path(out_path) as temporary:
        ready = Quantizer.prepare(fp32_path, Path(folder), pictures, preprocess, target or target_for("auto"), progress)
        ready.write(temporary, method, left_float)


def shift_biases(source: Path, out: Path, shifts: Mapping[str, NDArray[np.floating[Any]]]) -> None:
    """Write a network whose layers add ``shifts`` less than those of ``source``; layers get a bias where they had none.

    A MatMul has no place for a bias and is left alone.
    """
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.name not in shifts or node.op_type == "MatMul":
            continue
        shift = np.asarray(shifts[node.name], np.float64)
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        if len(node.input) > 2 and node.input[2] and bias is None:
            continue  # computed by another node
        before = numpy_helper.to_array(bias).astype(np.float64) if bias is not None else np.zeros_like(shift)
        name = f"{node.name}_shifted_bias"
        model.graph.initializer.append(numpy_helper.from_array((before - shift).astype(np.float32), name))
        del node.input[2:]
        node.input.append(name)
    onnx.save(model, out)


def _first(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _name_nodes(path: Path) -> None:
    """Give every node a name of its own: the quantiser knows them by it."""
    model = onnx.load(path)
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type.lower()}_{number}"
        seen.add(node.name)
    onnx.save(model, path)


def _spans(graph: onnx.GraphProto, ranges: Mapping[str, Range]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """The range of every tensor, as the quantiser wants it; it lets operators that only move values share one."""
    readers = Counter(name for node in graph.node for name in node.input)
    chosen = dict(ranges)
    for node in graph.node:
        # a ReLU read by nobody else disappears into the integers of its convolution: those must be the ReLU's
        if node.op_type in _ACTIVATION_FUNCTIONS and readers[node.input[0]] == 1 and node.output[0] in ranges:
            chosen[node.input[0]] = ranges[node.output[0]]
    return {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in chosen.items()}
