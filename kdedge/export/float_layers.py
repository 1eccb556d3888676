"""What it takes to leave a layer in float: its input must be float, too, so what makes it cannot round its output."""

from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

__all__ = ["read_float", "with_makers"]

_ACTIVATIONS = frozenset({"Relu", "Clip"})
_MOVES = frozenset({"Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output is rounded as their input is, since they only pass values on."""


def with_makers(graph: onnx.GraphProto, layers: Collection[str]) -> list[str]:
    """Names of ``layers`` and of the nodes that make their inputs: what computes them, and what passes them on."""
    producer = {name: node for node in graph.node for name in node.output}
    found: dict[str, None] = {}
    for node in graph.node:
        if node.name not in layers:
            continue
        found[node.name] = None
        maker = producer.get(node.input[0])
        while maker is not None:
            found[maker.name] = None
            maker = producer.get(maker.input[0]) if maker.op_type in _ACTIVATIONS | _MOVES else None
    return list(found)


def read_float(model: onnx.ModelProto, layers: Collection[str], plain: onnx.ModelProto) -> int:
    """Give, in place, the named layers of a QDQ model their float input, weight and bias back.

    A ReLU that the quantiser took away, since integers without a sign cannot fall below zero, is put in front of them.

    Args:
        plain: the fp32 network that was quantised.

    Returns:
        How many layers were changed.
    """
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    originals = {node.name: node for node in plain.graph.node}
    makers = {name: node for node in plain.graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in plain.graph.initializer}
    changed = 0
    for layer in list(graph.node):
        if layer.name not in layers:
            continue
        before = list(layer.input)
        for index, name in enumerate(before):
            back = producer.get(name)
            if back is None or back.op_type != "DequantizeLinear":
                continue
            into = producer.get(back.input[0])
            if into is not None and into.op_type == "QuantizeLinear" and into.input[0] not in constants:
                layer.input[index] = _with_activation(graph, layer, into.input[0], producer, makers, weights)
                passes = producer.get(into.input[0])
                while passes is not None and passes.op_type in _MOVES:
                    passes = _unrounded(graph, passes, producer, makers, weights)
            elif (tensor := weights.get(originals[layer.name].input[index])) is not None:
                fresh = f"{layer.name}_float_{index}"
                graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), fresh))
                layer.input[index] = fresh
        changed += list(layer.input) != before
    return changed


def _unrounded(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    producer: Mapping[str, onnx.NodeProto],
    makers: Mapping[str, onnx.NodeProto],
    weights: Mapping[str, onnx.TensorProto],
) -> onnx.NodeProto | None:
    """Let a node that passes values on read them before they are rounded; returns what makes them."""
    back = producer.get(node.input[0])
    if back is not None and back.op_type == "DequantizeLinear":
        into = producer.get(back.input[0])
        if into is None or into.op_type != "QuantizeLinear":
            return None
        node.input[0] = _with_activation(graph, node, into.input[0], producer, makers, weights)
        return producer.get(into.input[0])
    return back


def _with_activation(
    graph: onnx.GraphProto,
    layer: onnx.NodeProto,
    name: str,
    producer: Mapping[str, onnx.NodeProto],
    makers: Mapping[str, onnx.NodeProto],
    weights: Mapping[str, onnx.TensorProto],
) -> str:
    """The tensor ``name`` as the fp32 network knows it, behind its ReLU or Clip if the quantiser took that away."""
    wanted, there = makers.get(name), producer.get(name)
    if wanted is None or wanted.op_type not in _ACTIVATIONS or there is None or there.op_type == wanted.op_type:
        return name
    known = {tensor.name for tensor in graph.initializer}
    for bound in wanted.input[1:]:
        if bound and bound not in known and bound in weights:
            graph.initializer.append(weights[bound])
    again = onnx.NodeProto()
    again.CopyFrom(wanted)
    again.name, again.output[0], again.input[0] = f"{layer.name}_activation", f"{layer.name}_activated", name
    graph.node.insert(list(graph.node).index(layer), again)
    return str(again.output[0])
