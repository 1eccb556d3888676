"""The rules of a target, checked on the file that was written and not on what was meant."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import ExportError
from kdedge.export.headroom import LARGEST_BIAS
from kdedge.export.outputs import EMBEDDING, INPUT, LOGITS, PROBABILITIES
from kdedge.export.session import cpu_session
from kdedge.export.targets import Target

__all__ = ["Rule", "broken", "refuse_broken", "validate"]

_INTEGERS: dict[int, str] = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.INT32: "int32"}
_SEVEN_BITS = 64


@dataclass(frozen=True)
class Rule:
    """One property a file must have.

    Attributes:
        name: what must hold, in words.
        holds: whether it does.
        found: what was found instead, or how much of it; may be empty.
    """

    name: str
    holds: bool
    found: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def validate(path: Path, target: Target, precision: str, size: int) -> list[Rule]:
    """Every rule for a file of this precision (``fp32``, ``fp16``, ``int8``) and input size on this target.

    Raises:
        ExportError: the file is no ONNX.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's and the operating system's errors
        raise ExportError(f"{path}: not an ONNX file that can be read.") from error
    rules = [*_format(model, target), *_shapes(model, target, size)]
    if precision == "int8":
        rules += _quantised(model, target)
    elif precision == "fp16":
        rules += _half(model)
    return [*rules, _opens(path, size), _card(model, precision, size)]


def broken(rules: list[Rule]) -> list[Rule]:
    """Those that do not hold."""
    return [rule for rule in rules if not rule.holds]


def refuse_broken(rules: list[Rule], target: Target) -> None:
    """Raise ExportError, naming them, if any rule does not hold."""
    if bad := broken(rules):
        names = "; ".join(f"{rule.name} ({rule.found or 'does not hold'})" for rule in bad)
        raise ExportError(
            f"the file breaks {len(bad)} of {len(rules)} rules of target {target.name}: {names}; nothing was written."
        )


def _format(model: onnx.ModelProto, target: Target) -> Iterator[Rule]:
    outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    yield Rule("all weights in one file", not outside, ", ".join(outside[:3]))
    try:
        onnx.checker.check_model(model, full_check=not outside)
        yield Rule("valid ONNX", True)
    except Exception as error:  # ValidationError and InferenceError have no common base
        yield Rule("valid ONNX", False, str(error).strip().splitlines()[0])
    foreign = sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    )
    yield Rule("standard operators alone", not foreign, ", ".join(foreign[:3]))
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    yield Rule(f"opset {target.opset}", opset == target.opset, str(opset))
    yield Rule(f"IR version {target.ir_version}", model.ir_version == target.ir_version, str(model.ir_version))


def _shapes(model: onnx.ModelProto, target: Target, size: int) -> Iterator[Rule]:
    graph = model.graph
    wanted = [target.batch or "any", 3, size, size]
    first = graph.input[0] if graph.input else onnx.ValueInfoProto()
    shape, kind = _shape(first), first.type.tensor_type.elem_type
    right = [value.name for value in graph.input] == [INPUT] and kind == TensorProto.FLOAT and shape == wanted
    yield Rule(f"one input, '{INPUT}', float32 {wanted}", right, f"{first.name} {shape}")
    names = [value.name for value in graph.output]
    right = names[:1] in ([LOGITS], [PROBABILITIES]) and names[1:] in ([], [EMBEDDING])
    yield Rule(f"outputs '{LOGITS}' or '{PROBABILITIES}', then '{EMBEDDING}'", right, ", ".join(names))
    kinds = {value.type.tensor_type.elem_type for value in graph.output}
    yield Rule("outputs are float32", kinds == {TensorProto.FLOAT})
    batches = {str((_shape(value) or [""])[0]) for value in graph.output}
    yield Rule("outputs have the input's batch", batches == {str(wanted[0])}, ", ".join(sorted(batches)))


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or "any" for dim in value.type.tensor_type.shape.dim]


class _Quantised:
    """The Quantize and Dequantize nodes of a graph, and what they read."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        self.dequantizers = [node for node in graph.node if node.op_type == "DequantizeLinear"]
        self.outputs = [value.name for value in graph.output]
        self.layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]

    def zero_points(self, nodes: list[onnx.NodeProto]) -> list[onnx.TensorProto]:
        return [
            self.constants[node.input[2]] for node in nodes if len(node.input) > 2 and node.input[2] in self.constants
        ]

    def activations(self) -> list[onnx.NodeProto]:
        """Quantize nodes of what is computed."""
        return [node for node in self.quantizers if node.input[0] not in self.constants]

    def weight(self, layer: onnx.NodeProto, index: int) -> tuple[onnx.NodeProto, onnx.TensorProto] | None:
        """The Dequantize node and the constant behind it (through a Quantize node, if there is one)."""
        node = self.producer.get(layer.input[index]) if len(layer.input) > index else None
        if node is None or node.op_type != "DequantizeLinear":
            return None
        name = node.input[0]
        before = self.producer.get(name)
        if before is not None and before.op_type == "QuantizeLinear":
            name = before.input[0]
        return (node, self.constants[name]) if name in self.constants else None


def _quantised(model: onnx.ModelProto, target: Target) -> Iterator[Rule]:
    seen = _Quantised(model.graph)
    activations = seen.activations()
    kinds = {_INTEGERS.get(zero.data_type, "?") for zero in seen.zero_points(activations)}
    yield Rule(
        f"activations are {target.activations}", kinds == {target.activations}, ", ".join(sorted(kinds)) or "none"
    )
    weights = {node.name: found for node in seen.layers if (found := seen.weight(node, 1))}
    yield Rule("a layer is quantised", bool(weights), f"{len(weights)} of {len(seen.layers)}")
    zeros = seen.zero_points([node for node, _ in weights.values()])
    right = all(zero.data_type == TensorProto.INT8 and not numpy_helper.to_array(zero).any() for zero in zeros)
    yield Rule("weights are int8 with zero points 0", right and len(zeros) == len(weights))
    yield _per_channel(seen, weights)
    stored = [tensor for _, tensor in weights.values()]
    in_float = sum(tensor.data_type == TensorProto.FLOAT for tensor in stored)
    if target.weights_as_float:
        yield Rule("weights are float behind a Q-DQ pair", in_float == len(stored), f"{in_float} of {len(stored)}")
    else:
        yield Rule("weights are stored as integers", in_float == 0, f"{in_float} float")
    if target.reduce_range:
        largest = max((int(np.abs(numpy_helper.to_array(t).astype(int)).max(initial=0)) for t in stored), default=0)
        yield Rule("weights within 7 bits", largest <= _SEVEN_BITS, f"largest {largest}")
    if target.symmetric:
        shifted = sum(bool(numpy_helper.to_array(zero).any()) for zero in seen.zero_points(seen.quantizers))
        yield Rule("all zero points are 0", shifted == 0, f"{shifted} are not")
        yield _joined(seen)
    yield from _biases(seen, target)
    ends = [name for name in seen.outputs if (node := seen.producer.get(name)) and node.op_type == "DequantizeLinear"]
    if target.on_cpu:
        yield Rule("the answer is not quantised", seen.outputs[0] not in ends)
    else:
        yield Rule("no Q-DQ pair on an output", not ends, ", ".join(ends))


def _per_channel(seen: _Quantised, weights: dict[str, tuple[onnx.NodeProto, onnx.TensorProto]]) -> Rule:
    bad = []
    for name, (node, tensor) in weights.items():
        scale = seen.constants.get(node.input[1])
        axes = tensor.dims[:2] if len(tensor.dims) == 2 else tensor.dims[:1]  # a matrix may lie either way
        if scale is None or int(np.prod(scale.dims)) not in axes:
            bad.append(name)
    return Rule("a scale for each output channel", not bad, ", ".join(bad[:3]))


def _joined(seen: _Quantised) -> Rule:
    bad = []
    for name, node in seen.producer.items():
        if node.op_type in ("Relu", "Clip"):
            out = seen.producer.get(node.input[0])
            into = seen.producer.get(out.input[0]) if out is not None and out.op_type == "DequantizeLinear" else None
            layer = seen.producer.get(into.input[0]) if into is not None else None
            readers = sum(into.input[0] in other.input for other in seen.producer.values()) if into is not None else 0
            if layer is not None and layer.op_type in ("Conv", "Gemm") and readers == 1:
                bad.append(name)
    return Rule("no Q-DQ pair between a convolution and its ReLU", not bad, ", ".join(bad[:3]))


def _biases(seen: _Quantised, target: Target) -> Iterator[Rule]:
    biases = [found[1] for node in seen.layers if (found := seen.weight(node, 2))]
    integers = [tensor for tensor in biases if tensor.data_type == TensorProto.INT32]
    if not target.quantize_bias:
        yield Rule("biases are not quantised", not biases, f"{len(biases)} are")
        return
    yield Rule("quantised biases are int32", len(integers) == len(biases))
    largest = max((int(np.abs(numpy_helper.to_array(t).astype(np.int64)).max(initial=0)) for t in integers), default=0)
    yield Rule("room for the accumulator above the biases", largest <= LARGEST_BIAS, f"largest {largest}")


def _half(model: onnx.ModelProto) -> Iterator[Rule]:
    layers = {
        name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input[1:2]
    }
    weights = [tensor for tensor in model.graph.initializer if tensor.name in layers]
    halves = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in weights)
    yield Rule("weights are float16", bool(weights) and halves == len(weights), f"{halves} of {len(weights)}")


def _opens(path: Path, size: int) -> Rule:
    """onnxruntime's CPU kernels run any of these files, if slowly."""
    try:
        session = cpu_session(path)
        entry = session.get_inputs()[0]
        count = entry.shape[0] if isinstance(entry.shape[0], int) else 1
        results = session.run(None, {entry.name: np.zeros((count, 3, size, size), np.float32)})
    except Exception as error:  # onnxruntime's errors have no common base but this one
        return Rule("onnxruntime runs it", False, str(error).strip().splitlines()[0])
    return Rule("onnxruntime runs it", all(np.isfinite(values).all() for values in results), "finite outputs")


def _card(model: onnx.ModelProto, precision: str, size: int) -> Rule:
    name = "a card of this file is inside"
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    if text is None:
        return Rule(name, False, "none")
    card = ModelCard.from_json(text)
    classes = next((_shape(value)[-1] for value in model.graph.output), None)
    right = (card.precision, card.preprocess.size, len(card.labels)) == (precision, size, classes)
    return Rule(name, right, f"{card.precision}, {card.preprocess.size} px, {len(card.labels)} labels")
