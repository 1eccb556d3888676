"""The two outputs of an exported file: the answer, and the penultimate activations (the embedding)."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from kdedge.export.wiring import rename_in_nodes

__all__ = ["EMBEDDING", "INPUT", "LOGITS", "PROBABILITIES", "Outputs", "add_embedding"]

INPUT, LOGITS, PROBABILITIES, EMBEDDING = "input", "logits", "probabilities", "embedding"


@dataclass(frozen=True)
class Outputs:
    """What a network gives for N images.

    Attributes:
        logits: float32, (N, classes); of a network that gives probabilities, their logarithms.
        embedding: float32, (N, dim); None from a network that does not give it.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32] | None = None


def add_embedding(model: onnx.ModelProto) -> int | None:
    """Make, in place, the input of the last linear layer the second graph output, named ``embedding``.

    Returns:
        Its dimension; None, and nothing is changed, if the logits do not come from a Gemm that reads a vector an image.
    """
    graph = model.graph
    layer = next((node for node in graph.node if LOGITS in node.output), None)
    if layer is None or layer.op_type != "Gemm":
        return None
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.value_info}
    name = layer.input[0]
    shape = shapes.get(name)
    weight = next((tensor for tensor in graph.initializer if tensor.name == layer.input[1]), None)
    if shape is None or len(shape) != 2 or weight is None:
        return None
    transposed = next((bool(item.i) for item in layer.attribute if item.name == "transB"), False)
    dim = int(weight.dims[1 if transposed else 0])
    rename_in_nodes(graph, {name: EMBEDDING})
    first = graph.output[0].type.tensor_type.shape.dim[0]
    batch = first.dim_param or first.dim_value
    graph.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [batch, dim]))
    return dim
