"""An ONNX network as it was before its training: the same graph with random weights."""

import math
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from kdedge.errors import ModelError
from kdedge.training.onnx_fold import fold_weights

__all__ = ["reset_weights"]

WEIGHTED = ("Conv", "Gemm", "MatMul")
NORMS = {
    "BatchNormalization": (1.0, 0.0, 0.0, 1.0),
    "LayerNormalization": (1.0, 0.0),
    "GroupNormalization": (1.0, 0.0),
    "InstanceNormalization": (1.0, 0.0),
}
"""What the inputs after the first are before any training: scale, shift and, of a BatchNorm, mean and variance."""
SLOPE = 0.25  # PReLU's first value (He et al., arXiv 1502.01852)
REFUSED = ("ConvTranspose", "GRU", "LSTM", "RNN", "If", "Loop", "Scan")
QUANTISED = ("Integer", "QLinear", "Quantize")  # with a large Q: DequantizeLinear of a weight can be unfolded


def reset_weights(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy of ``model`` with the weights of a network that was never trained.

    Weights of convolutions and matrix products become He-normal (fan-in; He et al., arXiv 1502.01852) and their biases 0,
    norms the identity (a BatchNorm's statistics included: those of a trained network fit no random weights), slopes of PReLU
    0.25. All other constants stay: a network may subtract the mean of its input, for one. Weights stored as integers are
    unfolded first, see :func:`fold_weights`.

    Raises:
        ModelError: activations are quantised, or a weight is not a plain float tensor, or there is none.
    """
    for node in model.graph.node:
        if node.op_type in REFUSED or any(word in node.op_type for word in QUANTISED):
            raise ModelError(
                f"the ONNX network has a {node.op_type}, whose weights cannot be drawn anew for an untrained network; give the "
                "float network that it was made from, or a timm/, torchvision/ or run: network."
            )
    fresh = fold_weights(model)
    tensors = {tensor.name: tensor for tensor in fresh.graph.initializer}
    rng = np.random.default_rng(seed)
    done: set[str] = set()

    def put(name: str, make: Callable[[tuple[int, ...]], NDArray[np.float64] | float]) -> bool:
        if name not in tensors or name in done:
            return name in done
        old = numpy_helper.to_array(tensors[name])
        if old.dtype.kind != "f":
            return False
        new = np.broadcast_to(np.asarray(make(old.shape)), old.shape).astype(old.dtype)
        tensors[name].CopyFrom(numpy_helper.from_array(new, name))
        done.add(name)
        return True

    drawn = 0
    for node in fresh.graph.node:
        names = list(node.input)
        if node.op_type in WEIGHTED:
            found = [put(name, _he(rng, node, place)) for place, name in enumerate(names[:2])]
            if not any(found) and node.op_type != "MatMul":  # attention multiplies activations
                raise ModelError(
                    f"the weight {names[1]!r} of the ONNX network is computed, not stored, so it cannot be drawn anew for an "
                    "untrained network; export the network with constants folded."
                )
            drawn += any(found)
            for name in names[2:]:
                put(name, lambda _: 0.0)
        elif node.op_type in NORMS:
            for name, value in zip(names[1:], NORMS[node.op_type], strict=False):
                put(name, lambda _, value=value: value)  # type: ignore[misc]
        elif node.op_type == "PRelu":
            put(names[1], lambda _: SLOPE)
    if not drawn:
        raise ModelError("the ONNX network has no convolution or matrix product, so there is nothing to train in it.")
    return fresh


def _he(rng: np.random.Generator, node: onnx.NodeProto, place: int) -> Callable[[tuple[int, ...]], NDArray[np.float64]]:
    """Draws a weight of the shape it is given; ``place``: which input of the node it is."""
    transposed = any(a.name == ("transA", "transB")[place] and a.i for a in node.attribute)

    def draw(shape: tuple[int, ...]) -> NDArray[np.float64]:
        if node.op_type == "Conv":
            fan = math.prod(shape[1:])
        else:
            rows = (place == 0) == transposed  # the axis that is summed over: columns on the left, rows on the right
            fan = shape[-2] if rows and len(shape) > 1 else shape[-1]
        return rng.normal(0.0, math.sqrt(2.0 / fan), shape)

    return draw
