"""Activations and pads where they fuse, and none that do nothing."""

import math

import numpy as np
import onnx
from onnx import helper

from kdedge.export.wiring import Wiring, attribute, drop_unused_initializers, shapes

__all__ = ["drop_identity", "drop_redundant_relu", "leaky_prelu", "merge_pad_into_max_pool", "relu_before_pool"]

_MOVES_VALUES = frozenset(
    {"DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "SpaceToDepth"}
    | {"Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators whose outputs hold values of their first input and no others."""

_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_COMMUTES = frozenset({"Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that give the same before and after a function of each value that never falls."""

Span = tuple[float, float]
_ANY: Span = (-math.inf, math.inf)


def drop_identity(model: onnx.ModelProto) -> int:
    """Take out, in place, nodes that give what they get: Identity, and Dropout outside training."""
    dropped = 0
    for node in list(model.graph.node):
        idle = node.op_type == "Identity" or (node.op_type == "Dropout" and len(node.input) < 3)
        if not idle or any(node.output[1:]):
            continue
        wiring = Wiring(model)
        if wiring.removable(node):
            wiring.remove(node)
            dropped += 1
    drop_unused_initializers(model)
    return dropped


def drop_redundant_relu(model: onnx.ModelProto) -> int:
    """Take out, in place, each Relu or Clip whose input never leaves its range, or that a Clip behind it makes idle."""
    dropped = 0
    for node in list(model.graph.node):
        if node.op_type not in ("Relu", "Clip"):
            continue
        wiring = Wiring(model)
        limits = _limits(node, wiring)
        if limits is None:
            continue
        low, high = _span(node.input[0], wiring)
        idle = low >= limits[0] and high <= limits[1]
        behind = wiring.readers[node.output[0]]
        if not idle and wiring.alone(node.output[0]) and behind[0].op_type in ("Relu", "Clip"):
            after = _limits(behind[0], wiring)
            # the second cuts off all that the first does, if it is a range at all and this is what it cuts
            idle = after is not None and limits[0] <= after[0] <= after[1] <= limits[1]
            idle = idle and behind[0].input[0] == node.output[0]
        if idle and wiring.removable(node):
            wiring.remove(node)
            dropped += 1
    drop_unused_initializers(model)
    return dropped


def relu_before_pool(model: onnx.ModelProto) -> int:
    """Move, in place, each Relu or Clip to the layer it belongs to, across max pooling and changes of shape.

    Neither changes what a function of each value does that never falls. Behind the pool it is in the way: the pool's
    input and output have different integers then, and it runs in float.
    """
    moved = 0
    for node in list(model.graph.node):
        if node.op_type not in ("Relu", "Clip"):
            continue
        wiring = Wiring(model)
        if _limits(node, wiring) is None:
            continue
        chain: list[onnx.NodeProto] = []
        top = node
        while True:
            before = wiring.producer.get(top.input[0])
            if before is None or not wiring.alone(top.input[0]) or any(before.output[1:]):
                break
            top = before
            if top.op_type not in _COMMUTES:
                break
            chain.append(top)
        if not chain or top.op_type not in ("Conv", "Gemm", "Add"):
            continue
        first, last, made = chain[-1], chain[0], node.output[0]
        before_name = f"{made}_early"
        model.graph.node.remove(node)
        model.graph.node.insert(list(model.graph.node).index(first), node)
        node = next(item for item in model.graph.node if made in item.output)  # insert made a copy
        node.input[0], node.output[0] = first.input[0], before_name
        first.input[0], last.output[0] = before_name, made
        moved += 1
    return moved


def merge_pad_into_max_pool(model: onnx.ModelProto) -> int:
    """Let, in place, a MaxPool do the zero padding before it, where no value is below zero; Pad has no int8 kernel."""
    merged = 0
    known = shapes(model)
    for node in [node for node in model.graph.node if node.op_type == "MaxPool"]:
        wiring = Wiring(model)
        pad = wiring.producer.get(node.input[0])
        if pad is None or pad.op_type != "Pad":
            continue
        rank = len(known.get(pad.input[0], ()))
        widths = wiring.array(wiring.optional(pad, 1))
        value = wiring.array(wiring.optional(pad, 2)) if wiring.optional(pad, 2) else np.zeros(())
        kernel, plain = attribute(node, "kernel_shape", []), attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        if widths is None or value is None or rank != 4 or widths.size != 8 or wiring.optional(pad, 3) or not plain:
            continue
        extra = widths.reshape(2, 4)
        sides = [*extra[0, 2:], *extra[1, 2:]]
        pads = [int(old) + int(new) for old, new in zip(attribute(node, "pads", [0] * 4), sides, strict=True)]
        # every window must hold a value that is not padding
        fits = all(0 <= width < size for width, size in zip(pads, [*kernel, *kernel], strict=True))
        inside = (extra >= 0).all() and not extra[:, :2].any() and fits
        zero = attribute(pad, "mode", b"constant") == b"constant" and float(value.reshape(-1)[0]) == 0.0
        # with rounding up, or with gaps in the kernel, a last window could lie in the padding alone
        exact = not attribute(node, "ceil_mode", 0) or set(attribute(node, "strides", [1])) == {1}
        simple = exact and set(attribute(node, "dilations", [1])) == {1}
        if not (inside and zero and simple) or _span(pad.input[0], wiring)[0] < 0:
            continue
        node.input[0] = pad.input[0]
        for item in [item for item in node.attribute if item.name == "pads"]:
            node.attribute.remove(item)
        node.attribute.append(helper.make_attribute("pads", pads))
        if wiring.alone(pad.output[0]):
            model.graph.node.remove(pad)
        merged += 1
    drop_unused_initializers(model)
    return merged


def leaky_prelu(model: onnx.ModelProto) -> int:
    """Replace, in place, each PRelu with one slope for all channels by LeakyRelu, which has an int8 kernel."""
    replaced = 0
    wiring = Wiring(model)
    for node in model.graph.node:
        slopes = wiring.array(node.input[1]) if node.op_type == "PRelu" else None
        if slopes is None or not slopes.size or (slopes != slopes.reshape(-1)[0]).any():
            continue
        node.op_type = "LeakyRelu"
        del node.input[1:]
        node.attribute.append(helper.make_attribute("alpha", float(slopes.reshape(-1)[0])))
        replaced += 1
    drop_unused_initializers(model)
    return replaced


def _limits(node: onnx.NodeProto, wiring: Wiring) -> Span | None:
    """What a Relu or Clip cuts its input to; None if that is computed."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    limits = [float(attribute(node, "min", -math.inf)), float(attribute(node, "max", math.inf))]
    for index in (1, 2):
        if name := wiring.optional(node, index):
            value = wiring.array(name)
            if value is None or not value.size:
                return None
            limits[index - 1] = float(value.reshape(-1)[0])
    return limits[0], limits[1]


def _span(name: str, wiring: Wiring, seen: dict[str, Span] | None = None) -> Span:
    """Numbers between which all values of a tensor lie, as far as the graph tells."""
    seen = {} if seen is None else seen
    if name not in seen:
        seen[name] = _ANY  # what is asked for while it is being found out
        seen[name] = _span_made(name, wiring, seen)
    return seen[name]


def _span_made(name: str, wiring: Wiring, seen: dict[str, Span]) -> Span:
    constant = wiring.array(name)
    if constant is not None:
        return (float(constant.min()), float(constant.max())) if constant.size else _ANY
    node = wiring.producer.get(name)
    if node is None:
        return _ANY
    kind = node.op_type
    if kind in ("Relu", "Clip"):
        limits = _limits(node, wiring)
        if limits is None:
            return _ANY
        low, high = _span(node.input[0], wiring, seen)
        return min(max(low, limits[0]), limits[1]), max(min(high, limits[1]), limits[0])
    if kind in ("Sigmoid", "HardSigmoid", "Softmax"):
        return 0.0, 1.0
    if kind in _MOVES_VALUES or kind in _POOLS:
        low, high = _span(node.input[0], wiring, seen)
        zeros = kind == "AveragePool" and attribute(node, "count_include_pad", 0)
        return (min(low, 0.0), max(high, 0.0)) if zeros else (low, high)
    if kind not in ("Add", "Concat", "Mul"):
        return _ANY
    spans = [_span(item, wiring, seen) for item in node.input]
    lows, highs = [low for low, _ in spans], [high for _, high in spans]
    if kind == "Concat":
        return min(lows), max(highs)
    if kind == "Add":
        return sum(lows), sum(highs)
    return (0.0, math.inf) if min(lows) >= 0 else _ANY
