"""Global pooling in the spelling that has an int8 kernel."""

import onnx
from onnx import helper

from kdedge.export.wiring import Shape, Wiring, attribute, drop_unused_initializers, shapes

__all__ = ["max_pool_globally", "pool_globally"]

_TO_CHANNELS_LAST = [0, 2, 3, 1]


def pool_globally(model: onnx.ModelProto) -> int:
    """Replace, in place, each mean over height and width by GlobalAveragePool.

    ReduceMean, which PyTorch's exporter writes, stays float in an int8 network. Replaced are means over

    * the last two axes of a tensor (B, C, H, W),
    * the last axis of (B, C, H W), where that is a reshaped (B, C, H, W),
    * the middle axes of (B, H, W, C), where that is a transposed (B, C, H, W).

    Without ``keepdims`` a Flatten to (B, C) follows the pooling.
    """
    known = shapes(model)
    replaced = 0
    for node in list(model.graph.node):
        if node.op_type != "ReduceMean":
            continue
        wiring = Wiring(model)
        source = _mean_source(node, wiring, known)
        if source:
            keepdims = bool(attribute(node, "keepdims", 1))
            _replace(model, node, helper.make_node("GlobalAveragePool", [source], [""]), keepdims)
            replaced += 1
    drop_unused_initializers(model)
    return replaced


def max_pool_globally(model: onnx.ModelProto) -> int:
    """Replace, in place, each maximum over height and width, if these are fixed, by a MaxPool as large as the map.

    GlobalMaxPool and ReduceMax stay float in an int8 network.
    """
    known = shapes(model)
    replaced = 0
    for node in list(model.graph.node):
        shape = known.get(node.input[0], ()) if node.input else ()
        whole = node.op_type == "GlobalMaxPool" or (
            node.op_type == "ReduceMax" and _axes(node, Wiring(model), 4) == {2, 3}
        )
        if not whole or len(shape) != 4 or not shape[2] or not shape[3]:
            continue
        keepdims = node.op_type == "GlobalMaxPool" or bool(attribute(node, "keepdims", 1))
        pool = helper.make_node("MaxPool", [node.input[0]], [""], kernel_shape=[shape[2], shape[3]])
        _replace(model, node, pool, keepdims)
        replaced += 1
    drop_unused_initializers(model)
    return replaced


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, pool: onnx.NodeProto, keepdims: bool) -> None:
    name, output = node.name or node.output[0], node.output[0]
    pool.name, pool.output[0] = f"{name}_pool", output if keepdims else f"{output}_pooled"
    place = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    model.graph.node.insert(place, pool)
    if not keepdims:
        flat = helper.make_node("Flatten", [pool.output[0]], [output], name=f"{name}_flatten", axis=1)
        model.graph.node.insert(place + 1, flat)


def _mean_source(node: onnx.NodeProto, wiring: Wiring, known: dict[str, Shape]) -> str:
    """The tensor (B, C, H, W) whose global mean the node computes; empty if it computes something else."""
    data: str = node.input[0]
    shape = known.get(data)
    if not shape:
        return ""
    axes, before = _axes(node, wiring, len(shape)), wiring.producer.get(data)
    if len(shape) == 4 and axes == {2, 3}:
        return data
    if before is None or attribute(node, "keepdims", 1):
        return ""
    source: str = before.input[0] if before.input else ""
    maps = known.get(source, ())
    if len(maps) != 4:
        return ""
    if before.op_type == "Transpose" and list(attribute(before, "perm", [])) == _TO_CHANNELS_LAST:
        return source if axes == {1, 2} else ""
    _, channels, height, width = maps
    if before.op_type == "Reshape" and len(shape) == 3 and axes == {2} and channels and height and width:
        return source if shape[1:] == (channels, height * width) else ""
    return ""


def _axes(node: onnx.NodeProto, wiring: Wiring, rank: int) -> set[int]:
    """The axes of a reduction, counted from the front; empty if they are not constant or not given."""
    given = wiring.optional(node, 1)
    if given:
        values = wiring.array(given)
        return set() if values is None else {int(axis) % rank for axis in values.reshape(-1)}
    return {int(axis) % rank for axis in attribute(node, "axes", [])}
