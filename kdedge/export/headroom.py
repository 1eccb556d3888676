"""Room for the accumulator of an int8 convolution.

A channel whose weights are next to nothing (pretrained networks have dead ones) gets a tiny weight scale. Its bias is stored
in units of input scale x weight scale, so the integer is huge; onnxruntime's quantiser only makes it fit into 32 bits. The
kernel then adds its products to that integer, passes the end of the range, and the channel comes out with the other sign:
one such channel took a student from 97 % to 50 %. Here those channels get a coarser scale, which costs nothing where the
weights are next to nothing.
"""

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["LARGEST_BIAS", "give_headroom"]

LARGEST_BIAS = 2**29
"""Largest stored bias. Products of a convolution with K weights a channel reach 2^15 K, so K may be 49,152."""


def give_headroom(model: onnx.ModelProto) -> int:
    """Rescale, in place, every channel of a QDQ model whose int32 bias is above :data:`LARGEST_BIAS`.

    Returns:
        How many channels were rescaled.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantized = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    changed = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        weight, bias = dequantized.get(node.input[1]), dequantized.get(node.input[2])
        names = [*(weight.input[:2] if weight else ()), *(bias.input[:2] if bias else ())]
        if len(names) != 4 or any(name not in constants for name in names):
            continue
        integers, scale, stored, unit = (numpy_helper.to_array(constants[name]) for name in names)
        factor = np.maximum(1.0, np.abs(stored.astype(np.float64)) / LARGEST_BIAS)
        if scale.ndim == 0 or scale.size == 1:
            factor = np.full_like(factor, factor.max())
        if (factor == 1.0).all():
            continue
        along = factor.reshape(
            -1, *[1] * (integers.ndim - 1)
        )  # output channels come first, of Conv and of Gemm with transB
        whole = factor.max() if scale.size == 1 else factor
        new = (
            np.rint(integers / along).astype(integers.dtype),
            (scale * whole).astype(scale.dtype).reshape(scale.shape),
            np.rint(stored / factor).astype(stored.dtype),
            (unit * (whole if unit.size == 1 else factor)).astype(unit.dtype).reshape(unit.shape),
        )
        for name, values in zip(names, new, strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
        changed += int((factor > 1.0).sum())
    return changed
