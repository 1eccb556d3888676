"""What may be wrong with an ONNX file from elsewhere, found before anything runs it.

The file is not trusted: it is parsed by onnx, and a file that points at other files or needs code of its own is refused.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, inliner

from kdedge.errors import ExportError
from kdedge.export.quiet import quiet

__all__ = ["MAX_MEGABYTES", "cause", "load_checked", "nodes_in", "refuse_quantised", "standard", "version_of"]

MAX_MEGABYTES = 512
"""Larger files are refused unread; ``$KDEDGE_MAX_MODEL_MB`` overrides it."""

_STANDARD = ("", "ai.onnx")
_KINDS = {b"PK\x03\x04": "a PyTorch checkpoint, an archive or a Keras file", b"\x89HDF": "an HDF5 (Keras) file"}
_QUANTISED = ("QuantizeLinear", "QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_HALF: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def load_checked(path: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The network in ``path``, with every node named and no weight among its inputs; and what was changed, in words.

    Raises:
        ExportError: the file is too large, not ONNX, points at other files, or has sparse or half-precision weights.
    """
    model = _parse(path)
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")
            raise ExportError(
                f"{path}: its tensor {tensor.name!r} is kept outside, in {place!r}; make one file of them where both lie, "
                "with onnx.save(onnx.load(FILE), NEW), or export with external_data=False."
            )
        if tensor.data_type in _HALF:
            raise ExportError(
                f"{path}: its tensor {tensor.name!r} is {_HALF[tensor.data_type]}; give the float32 file it was made from."
            )
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise ExportError(f"{path}: its weight {name!r} is stored sparse; export it with dense weights.")
    model.ClearField("training_info")
    model.ir_version = max(model.ir_version, 4)  # before that every weight had to be listed as an input
    _name_nodes(model.graph)
    return model, _drop_inputs(model.graph)


def standard(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``model`` in operators of the ONNX standard alone, its local functions inlined; and what was changed, in words.

    Raises:
        ExportError: it needs other operators, or is quantised.
    """
    changes: tuple[str, ...] = ()
    if model.functions:
        try:
            with quiet():
                model = inliner.inline_local_functions(model)
        except Exception as error:  # the inliner raises whatever its C++ does
            raise ExportError(f"{path}: its local functions cannot be inlined ({cause(error)}).") from error
        _name_nodes(model.graph)
        changes = ("local functions were inlined",)
    for node in nodes_in(model.graph):
        if node.domain not in _STANDARD:
            hint = {
                "ai.onnx.ml": "kdedge exports neural networks, not trees and other classical classifiers",
                "com.microsoft": "export the network again, without onnxruntime's optimiser or quantiser",
            }.get(node.domain, "export the network with standard ONNX operators alone")
            raise ExportError(f"{path}: {_called(node)} is an operator of {node.domain!r}, not of ONNX; {hint}.")
    for item in (*model.opset_import, *nodes_in(model.graph)):
        item.domain = "" if item.domain == "ai.onnx" else item.domain
    refuse_quantised(model, path)
    return model, changes


def _parse(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        cap = _cap()
        if size > cap * 2**20:
            raise ExportError(
                f"{path}: {size / 2**20:,.0f} MB is above the cap of {cap:,} MB for a network; "
                "give a smaller one or set KDEDGE_MAX_MODEL_MB."
            )
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror or error}); give an ONNX file.") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        whole = model.ir_version > 0 and len(model.graph.node) > 0 and len(model.opset_import) > 0
        whole = whole and all(isinstance(text, str) for text in _texts(model))  # bytes if not UTF-8
    except Exception:  # protobuf's DecodeError; its base differs between implementations
        whole = False
    if not whole:
        kind = _KINDS.get(data[:4], "an ORT-format file" if data[4:8] == b"ORTM" else "")
        found = f"it looks like {kind}" if kind else f"{size:,} bytes that are damaged, cut short or something else"
        raise ExportError(
            f"{path}: not an ONNX network ({found}); export the network to ONNX again and give that file."
        )
    return model


def _cap() -> int:
    setting = os.environ.get("KDEDGE_MAX_MODEL_MB", str(MAX_MEGABYTES))
    try:
        return int(setting)
    except ValueError:
        raise ExportError(f"KDEDGE_MAX_MODEL_MB is {setting!r}; a number of megabytes was expected.") from None


def nodes_in(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph or function, those of its sub-graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_in(inner)


def _texts(model: onnx.ModelProto) -> Iterator[str]:
    """Every name that an edit of the graph may come across."""
    yield from (model.producer_name, model.producer_version, *(item.domain for item in model.opset_import))
    for graph_or_function in (model.graph, *model.functions):
        for node in nodes_in(graph_or_function):
            yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    yield from (dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor: weights, constants in attributes, those of sub-graphs and functions."""
    graphs = [model.graph]
    groups = [model.graph.node, *(function.node for function in model.functions)]
    while graphs or groups:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            if graph is not model.graph:
                groups.append(graph.node)
            continue
        for node in groups.pop():
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                graphs.extend([attribute.g, *attribute.graphs])


def refuse_quantised(model: onnx.ModelProto, path: Path, *more: str) -> None:
    """Raise ExportError if a node computes with integers that stand for real numbers, or is one of the operators ``more``."""
    for node in nodes_in(model.graph):
        if node.op_type.startswith((*_QUANTISED, *more)):
            raise ExportError(
                f"{path}: the network is quantised already ({_called(node)}); give the float32 network it was made from."
            )


def version_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the network is written in."""
    return int(next((item.version for item in model.opset_import if item.domain in _STANDARD), 1))


def cause(error: Exception) -> str:
    """The first line of an error of onnx or onnxruntime, without its codes and the names of temporary files."""
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    for mark in ("failed:", " : INVALID_GRAPH : ", " : NOT_IMPLEMENTED : ", " : INVALID_ARGUMENT : ", " : FAIL : "):
        text = text.partition(mark)[2] or text
    text = re.sub(r"^(\[ShapeInferenceError\] |/\S+\.(cc|h):\d+ [^)]*\) )", "", text.strip()).rstrip(".")
    return text if len(text) <= 200 else text[:200] + "…"


def _called(node: onnx.NodeProto) -> str:
    return f"{node.op_type} at node {node.name or next(iter(node.output), '')!r}"


def _drop_inputs(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Take weights and what nobody reads out of a graph's inputs, in place."""
    weights = {tensor.name for tensor in graph.initializer}
    read = {name for node in nodes_in(graph) for name in node.input} | {value.name for value in graph.output}
    listed = [value for value in graph.input if value.name in weights]
    unread = [value.name for value in graph.input if value.name not in weights and value.name not in read]
    kept = [value for value in graph.input if value.name not in weights and value.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    changes: tuple[str, ...] = ("weights that were listed as inputs are constants",) if listed else ()
    if unread:
        changes += (
            f"inputs that nothing reads were dropped: {unread[0]}"
            + (f" and {len(unread) - 1} more" if unread[1:] else ""),
        )
    return changes


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: error messages and the quantiser speak of nodes by name."""
    seen: set[str] = set()
    for number, node in enumerate(nodes_in(graph)):
        wanted = node.name or f"{node.op_type}_{next(iter(node.output), number)}"
        node.name = wanted if wanted not in seen else f"{wanted}_{number}"
        seen.add(node.name)
