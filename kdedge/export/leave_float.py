"""Float layers that stay float.

From version 1.21 on, onnxruntime quantises the float weights of a Conv or Gemm by itself where its input comes from a
DequantizeLinear and its output goes to a QuantizeLinear: in int8, with one scale for the whole tensor. A layer that was
left in float because it suffers from int8 would run in a coarser int8 than all the others, and the file would not tell.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kdedge.export.wiring import Wiring, drop_unused_initializers, shapes

__all__ = ["keep_float"]


def keep_float(model: onnx.ModelProto, names: Collection[str]) -> int:
    """Make, in place, onnxruntime leave the named layers of a QDQ model in float. Nothing that is computed changes.

    Their input gets a DequantizeLinear of its own with the scale written once for each channel, which onnxruntime takes
    as a sign that the layer is not to be quantised. Only for devices that run onnxruntime's CPU kernels: TensorRT refuses
    such scales of activations, and does not quantise by itself.

    Returns:
        How many layers got one; those whose input is float anyway need none, and those whose weights another, quantised
        layer shares cannot be kept in float.
    """
    known = shapes(model)
    done = 0
    for layer in list(model.graph.node):
        if layer.name not in names or layer.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        wiring = Wiring(model)
        back = wiring.producer.get(layer.input[0])
        shape = known.get(layer.input[0], ())
        if back is None or back.op_type != "DequantizeLinear" or len(shape) < 2 or not shape[1]:
            continue
        scale = wiring.array(back.input[1])
        zero = wiring.array(wiring.optional(back, 2)) if wiring.optional(back, 2) else np.zeros((), np.uint8)
        if scale is None or zero is None or scale.size != 1:
            continue
        if wiring.array(layer.input[1]) is None:
            continue  # weights that a quantised layer shares are integers, and onnxruntime would fuse all the same
        stem = f"{layer.name}_input"
        for name, value in ((f"{stem}_scale", scale), (f"{stem}_zero_point", zero)):
            model.graph.initializer.append(numpy_helper.from_array(np.repeat(value.reshape(-1), shape[1]), name))
        inputs = [back.input[0], f"{stem}_scale", f"{stem}_zero_point"]
        place = list(model.graph.node).index(layer)
        again = helper.make_node("DequantizeLinear", inputs, [stem], name=f"{stem}_DequantizeLinear", axis=1)
        model.graph.node.insert(place, again)
        layer.input[0] = stem
        if not wiring.readers[back.output[0]][1:] and back.output[0] not in wiring.outputs:
            model.graph.node.remove(back)
        done += 1
    drop_unused_initializers(model)
    return done
