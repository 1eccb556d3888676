"""Small edits of an ONNX graph that every exported file goes through."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from kdedge.card import METADATA_KEY, ModelCard

__all__ = ["IR_VERSION", "OPSET", "clean", "read_card", "write_card"]

OPSET = 18
IR_VERSION = 8
"""The file format that came with opset 18; newer ones are refused by the runtimes of older devices."""


def clean(model: onnx.ModelProto, version: str, ir_version: int = IR_VERSION) -> None:
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
    model.ir_version = ir_version
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
