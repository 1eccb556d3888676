"""Edits of a QDQ graph that TensorRT asks for.

TensorRT fuses a convolution with the ReLU behind it only if no Quantize-Dequantize pair stands between the two, and
wants the network's outputs to be computed, not dequantised.
"""

from collections import Counter

import onnx

from kdedge.export.wiring import drop_unused_initializers, rename_in_nodes

__all__ = ["float_outputs", "join_activations"]

_FUSED = frozenset({"Relu", "Clip"})


def join_activations(model: onnx.ModelProto) -> int:
    """Take out, in place, each Q-DQ pair between a Conv or Gemm and the ReLU or Clip that alone reads it.

    Returns:
        How many pairs were taken out.
    """
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    gone: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in _FUSED:
            continue
        out = producer.get(node.input[0])
        into = producer.get(out.input[0]) if out is not None and out.op_type == "DequantizeLinear" else None
        if out is None or into is None or into.op_type != "QuantizeLinear":
            continue
        layer = producer.get(into.input[0])
        alone = readers[out.output[0]] == readers[into.output[0]] == readers[into.input[0]] == 1
        if alone and layer is not None and layer.op_type in ("Conv", "Gemm"):
            node.input[0] = into.input[0]
            gone += [into, out]
    for node in gone:
        graph.node.remove(node)
    drop_unused_initializers(model)
    return len(gone) // 2


def float_outputs(model: onnx.ModelProto, most: int | None = None) -> int:
    """Let, in place, each graph output that a DequantizeLinear makes be the tensor before it was quantised.

    Args:
        most: look at the first ``most`` outputs alone.

    Returns:
        How many outputs were moved.
    """
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    moved = 0
    for value in list(graph.output)[:most]:
        out = producer.get(value.name)
        into = producer.get(out.input[0]) if out is not None and out.op_type == "DequantizeLinear" else None
        if out is None or into is None or into.op_type != "QuantizeLinear":
            continue
        before, after = into.input[0], f"{value.name}_dequantized"
        names = {value.name: after, before: value.name}
        rename_in_nodes(graph, names)
        producer = {name: node for node in graph.node for name in node.output}
        moved += 1
    return moved
