"""Small edits of an ONNX graph that every exported file goes through."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from kdedge.card import METADATA_KEY, ModelCard

__all__ = ["IR_VERSION", "OPSET", "clean", "pool_globally", "read_card", "write_card"]

OPSET = 18
IR_VERSION = 8
"""The file format that came with opset 18; newer ones are refused by the runtimes of older devices."""


def pool_globally(model: onnx.ModelProto) -> int:
    """Replace, in place, each mean over height and width by GlobalAveragePool, which has an int8 kernel.

    Only ReduceMean over the last two axes of a tensor (B, C, H, W) is touched; without ``keepdims`` a Flatten to (B, C)
    follows the pooling.

    Returns:
        How many nodes were replaced.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    replaced = 0
    for node in model.graph.node:
        keepdims = _keepdims(node)
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or _axes(node, constants) != {2, 3}:
            nodes.append(node)
            continue
        replaced += 1
        name, output = node.name or node.output[0], node.output[0]
        pooled = output if keepdims else f"{output}_pooled"
        nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=f"{name}_pool"))
        if not keepdims:
            nodes.append(onnx.helper.make_node("Flatten", [pooled], [output], name=f"{name}_flatten", axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unused_initializers(model)
    return replaced


def _keepdims(node: onnx.NodeProto) -> bool:
    return next((bool(item.i) for item in node.attribute if item.name == "keepdims"), True)


def _axes(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> set[int]:
    """The axes of a reduction of a rank-4 tensor, counted from the front; empty if they are not constant."""
    if len(node.input) > 1 and node.input[1] in constants:
        values = np.atleast_1d(numpy_helper.to_array(constants[node.input[1]]))
    else:
        values = np.array(next((list(item.ints) for item in node.attribute if item.name == "axes"), []), np.int64)
    return {int(axis) % 4 for axis in values}


def _drop_unused_initializers(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def clean(model: onnx.ModelProto, version: str) -> None:
    """Stamp the file's format and remove, in place, what exporters leave behind.

    That is stack traces with the paths of the exporting machine, comments, intermediate shapes, and imports of operator
    sets no node uses, which older runtimes would refuse.
    """
    for message in _messages(model):
        message.ClearField("doc_string")
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    domains = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if (item.domain if item.domain != "ai.onnx" else "") in domains]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "kdedge", version
    model.graph.name = "student"


Message = onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.TensorProto | onnx.ValueInfoProto


def _messages(model: onnx.ModelProto) -> Iterator[Message]:
    graph = model.graph
    yield model
    yield graph
    for group in (graph.node, graph.initializer, graph.input, graph.output):
        yield from group


def write_card(path: Path, card: ModelCard) -> None:
    """Put ``card`` into the metadata of the ONNX file at ``path``, in place of any it has."""
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    onnx.save(model, path)


def read_card(path: Path) -> ModelCard:
    """The card in an ONNX file; raises CardError if it has none."""
    model = onnx.load(path, load_external_data=False)
    return ModelCard.from_metadata({entry.key: entry.value for entry in model.metadata_props}, path)
