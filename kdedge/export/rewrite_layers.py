"""Layers that take up what stands behind them, and the spelling of linear layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from kdedge.export.wiring import Shape, Wiring, attribute, drop_unused_initializers, shapes

__all__ = ["batchnorm_to_conv", "convolution_to_gemm", "fold_batchnorm", "fold_hardsigmoid", "matmul_to_gemm"]

Array = NDArray[np.float64]


def fold_batchnorm(model: onnx.ModelProto) -> int:
    """Put, in place, each BatchNormalization behind a Conv or Gemm that it alone reads into weight and bias.

    The arithmetic is done in float64, weights that other layers share are copied.
    """

    def fold(node: onnx.NodeProto, wiring: Wiring) -> bool:
        layer = _layer_before(node, wiring)
        found = _scale_and_shift(node, wiring) if layer is not None else None
        return layer is not None and found is not None and _scale_layer(layer, wiring, *found)

    return _fold(model, "BatchNormalization", fold)


def fold_hardsigmoid(model: onnx.ModelProto) -> int:
    """Put, in place, the slope and offset of each HardSigmoid that alone reads a Conv or Gemm into that layer.

    HardSigmoid is ``clip(alpha x + beta, 0, 1)``. It has no int8 kernel; the Clip that is left disappears into the
    integers of the layer, and the gates of squeeze-and-excitation stay int8.
    """

    def fold(node: onnx.NodeProto, wiring: Wiring) -> bool:
        layer = _layer_before(node, wiring)
        if layer is None:
            return False
        alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
        weight = wiring.array(layer.input[1])
        count = 0 if weight is None else _outputs(layer, weight)
        return _scale_layer(layer, wiring, np.full(count, alpha), np.full(count, beta))

    def limits(node: onnx.NodeProto, wiring: Wiring) -> None:
        low, high = (
            wiring.add(f"{node.output[0]}_{name}", np.array(value)) for name, value in (("min", 0), ("max", 1))
        )
        node.op_type = "Clip"
        node.input.extend([low, high])
        node.ClearField("attribute")

    return _fold(model, "HardSigmoid", fold, limits)


def batchnorm_to_conv(model: onnx.ModelProto) -> int:
    """Replace, in place, each BatchNormalization of a tensor (B, C, H, W) by a depthwise convolution of 1 x 1 pixels.

    The BatchNormalizations of pre-activation and densely connected networks have no layer before them to go into, and
    no int8 kernel: each is a float island between int8 layers. A weight a channel loses nothing by being an integer.
    """
    known = shapes(model)
    replaced = 0
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or len(known.get(node.input[0], ())) != 4:
            continue
        wiring = Wiring(model)
        found = _scale_and_shift(node, wiring)
        if found is None:
            continue
        scale, shift = found
        names = [
            wiring.add(f"{node.output[0]}_weight", scale.reshape(-1, 1, 1, 1)),
            wiring.add(f"{node.output[0]}_bias", shift),
        ]
        node.op_type = "Conv"
        del node.input[1:], node.output[1:]
        node.input.extend(names)
        node.ClearField("attribute")
        node.attribute.extend(
            [helper.make_attribute("group", len(scale)), helper.make_attribute("kernel_shape", [1, 1])]
        )
        replaced += 1
    drop_unused_initializers(model)
    return replaced


def matmul_to_gemm(model: onnx.ModelProto) -> int:
    """Replace, in place, each product of a (B, D) tensor and a constant matrix, with the Add behind it, by a Gemm."""
    known = shapes(model)
    replaced = 0
    for node in list(model.graph.node):
        if node.op_type != "MatMul" or len(known.get(node.input[0], ())) != 2:
            continue
        wiring = Wiring(model)
        weight = wiring.array(node.input[1])
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            continue
        output, inputs = node.output[0], [node.input[0], wiring.add(node.input[1], weight.T)]
        after = wiring.readers[output][0] if wiring.alone(output) else None
        if after is not None and after.op_type == "Add":
            bias_name = next((name for name in after.input if name != output), "")
            bias = wiring.array(bias_name)
            if (
                bias is not None
                and bias.size == weight.shape[1]
                and bias.ndim in (1, 2)
                and bias.shape[-1] == bias.size
            ):
                inputs.append(wiring.add(bias_name, bias.reshape(-1)))
                output = after.output[0]
                model.graph.node.remove(after)
        node.op_type, node.output[0] = "Gemm", output
        del node.input[:]
        node.input.extend(inputs)
        node.attribute.append(helper.make_attribute("transB", 1))
        replaced += 1
    drop_unused_initializers(model)
    return replaced


def convolution_to_gemm(model: onnx.ModelProto) -> int:
    """Replace, in place, a 1 x 1 Conv of a single pixel that ends the network, with the reshape behind it, by a Gemm.

    The logits of a linear layer stay float, and what it reads is the embedding.
    """
    known = shapes(model)
    replaced = 0
    for value in model.graph.output:
        wiring = Wiring(model)
        flat = wiring.producer.get(value.name)
        if flat is None or flat.op_type not in ("Flatten", "Reshape", "Squeeze") or len(known.get(value.name, ())) != 2:
            continue
        conv = _layer_before(flat, wiring)
        weight = wiring.array(conv.input[1]) if conv is not None else None
        if conv is None or conv.op_type != "Conv" or weight is None or not _single_pixel(conv, weight, known):
            continue
        # of one pixel an image, a 2-d tensor of that many columns can hold nothing but the channels
        if known[value.name][1] != weight.shape[0]:
            continue
        pixel, vector = conv.input[0], f"{value.name}_vector"
        inputs = [vector, wiring.add(conv.input[1], weight.reshape(len(weight), -1)), *conv.input[2:]]
        name = conv.name or value.name
        gemm = helper.make_node("Gemm", inputs, [value.name], name=name, transB=1)
        place = list(model.graph.node).index(conv)
        model.graph.node.remove(flat)
        model.graph.node.remove(conv)
        model.graph.node.insert(place, helper.make_node("Flatten", [pixel], [vector], name=f"{name}_flatten", axis=1))
        model.graph.node.insert(place + 1, gemm)
        replaced += 1
    drop_unused_initializers(model)
    return replaced


def _single_pixel(conv: onnx.NodeProto, weight: NDArray[Any], known: dict[str, Shape]) -> bool:
    shape = known.get(conv.input[0], ())
    plain = attribute(conv, "group", 1) == 1 and not any(attribute(conv, "pads", [0]))
    return len(shape) == 4 and shape[2:] == (1, 1) and weight.ndim == 4 and weight.shape[2:] == (1, 1) and plain


def _fold(
    model: onnx.ModelProto,
    kind: str,
    fold: Callable[[onnx.NodeProto, Wiring], bool],
    instead: Callable[[onnx.NodeProto, Wiring], None] | None = None,
) -> int:
    """Try ``fold`` on every node of a kind; where it did, put something else in the node's place, or nothing."""
    done = 0
    for node in list(model.graph.node):
        if node.op_type != kind:
            continue
        wiring = Wiring(model)
        if (instead is None and not wiring.removable(node)) or not fold(node, wiring):
            continue
        if instead is None:
            wiring.remove(node)
        else:
            instead(node, wiring)
        done += 1
    drop_unused_initializers(model)
    return done


def _layer_before(node: onnx.NodeProto, wiring: Wiring) -> onnx.NodeProto | None:
    """The Conv or Gemm whose output nothing but this node reads."""
    layer = wiring.producer.get(node.input[0])
    if layer is None or layer.op_type not in ("Conv", "Gemm") or not wiring.alone(node.input[0]):
        return None
    return layer


def _scale_and_shift(node: onnx.NodeProto, wiring: Wiring) -> tuple[Array, Array] | None:
    """What a BatchNormalization multiplies and adds, a number a channel; None if it is computed or in training."""
    found = [wiring.array(name) for name in node.input[1:5]]
    if any(values is None for values in found) or attribute(node, "training_mode", 0) or any(node.output[1:]):
        return None
    gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in found)
    scale = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))
    return scale, beta - mean * scale


def _outputs(layer: onnx.NodeProto, weight: NDArray[Any]) -> int:
    return int(weight.shape[0] if layer.op_type == "Conv" or attribute(layer, "transB", 0) else weight.shape[1])


def _scale_layer(layer: onnx.NodeProto, wiring: Wiring, scale: Array, shift: Array) -> bool:
    """Let a layer give ``scale * output + shift``, channel by channel; False, and nothing changes, if it cannot."""
    weight, bias_name = wiring.array(layer.input[1]), wiring.optional(layer, 2)
    bias = wiring.array(bias_name) if bias_name else np.zeros(1)
    if weight is None or bias is None or weight.dtype != np.float32 or _outputs(layer, weight) != len(scale):
        return False
    if layer.op_type == "Gemm" and (bias.ndim > 2 or bias.shape[-1:] not in ((1,), (len(scale),), ())):
        return False
    if layer.op_type == "Gemm" and bias.size not in (1, len(scale)):
        return False
    factor = float(attribute(layer, "beta", 1.0)) if layer.op_type == "Gemm" else 1.0
    new_bias = np.broadcast_to(factor * bias.astype(np.float64).reshape(-1), scale.shape) * scale + shift
    along = scale.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.op_type == "Gemm":
        along = scale.reshape(-1, 1) if attribute(layer, "transB", 0) else scale.reshape(1, -1)
        for item in [item for item in layer.attribute if item.name == "beta"]:
            layer.attribute.remove(item)
    bias_name = bias_name or f"{layer.name or layer.output[0]}_bias"
    names = [wiring.add(layer.input[1], weight.astype(np.float64) * along), wiring.add(bias_name, new_bias)]
    del layer.input[1:]
    layer.input.extend(names)
    return True
