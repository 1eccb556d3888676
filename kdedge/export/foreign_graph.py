"""Edits of a graph from elsewhere that keep what it computes: constants, dead nodes, names, operator set.

None of them knows sub-graphs; :func:`without_branches` comes first.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
from onnx import numpy_helper

from kdedge.errors import ExportError, ModelError
from kdedge.export.foreign_check import cause, version_of
from kdedge.export.foreign_run import silent_options
from kdedge.export.quiet import quiet
from kdedge.export.to_onnx import with_opset
from kdedge.export.wiring import rename_in_nodes
from kdedge.training.onnx_fold import fold_weights

__all__ = [
    "fold",
    "forget_shapes",
    "in_opset",
    "producers",
    "prune",
    "rename",
    "set_values",
    "unused_name",
    "without_branches",
]

_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_OPTIONAL_OUTPUTS = ("BatchNormalization", "Dropout", "MaxPool")  # their masks, indices and statistics are for training
_OPSETS = range(13, 22)
_FALLBACK_OPSETS = (18, 17, 15, 13)


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def set_values(field: Any, values: Iterable[Any]) -> None:
    """Replace all of a repeated field."""
    kept = list(values)
    del field[:]
    field.extend(kept)


def unused_name(graph: onnx.GraphProto, wanted: str) -> str:
    """``wanted``, or it with a number behind it if a tensor has that name."""
    taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    taken.update(name for node in graph.node for name in (*node.input, *node.output))
    return next(
        name for number in range(len(taken) + 1) if (name := f"{wanted}_{number}" if number else wanted) not in taken
    )


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors, inputs and outputs of a graph new names; others that have one of these make room."""
    full = dict(names)
    for new in names.values():
        if new not in names:
            full[new] = unused_name(graph, f"{new}_inside")
    rename_in_nodes(graph, full)
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.name = full.get(item.name, item.name)


def prune(model: onnx.ModelProto, outputs: Iterable[str]) -> None:
    """Keep, in place, what the tensors ``outputs`` need, and make them the outputs."""
    graph = model.graph
    wanted = list(outputs)
    described = {value.name: value for value in (*graph.value_info, *graph.output)}
    values = [described.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in wanted]
    needed = set(wanted)
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    for node in kept:
        while node.op_type in _OPTIONAL_OUTPUTS and len(node.output) > 1 and node.output[-1] not in needed:
            del node.output[-1]
    set_values(graph.node, reversed(kept))
    set_values(graph.output, values)
    for index in reversed(range(len(graph.initializer))):  # in place: weights are large
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]


def forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop, in place, what a graph says of the shapes of all but its inputs: they follow from the input's."""
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def without_branches(model: onnx.ModelProto, path: Path, shape: list[int]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``model`` without If, Loop and Scan, for an input of ``shape``; itself if it has none.

    Exporters write an If for sizes that they did not know; once the input's shape is fixed, onnxruntime computes which
    branch is taken.

    Raises:
        ExportError: what they do depends on the image.
    """

    def branching(candidate: onnx.ModelProto) -> onnx.NodeProto | None:
        return next((n for n in candidate.graph.node if any(a.HasField("g") or a.graphs for a in n.attribute)), None)

    found = branching(model)
    if found is None:
        return model, ()
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    name, kind = fixed.graph.input[0].name, fixed.graph.input[0].type.tensor_type.elem_type
    fixed.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))
    forget_shapes(fixed.graph)
    left: onnx.NodeProto | None = found
    with TemporaryDirectory(prefix="kdedge-") as folder, quiet():
        source, dump = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        onnx.save(fixed, source)
        options = silent_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(dump)
        try:
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
            resolved = onnx.load(dump, load_external_data=False)
            left = branching(resolved) or next(
                (n for n in resolved.graph.node if n.domain not in ("", "ai.onnx")), None
            )
        except Exception as error:  # onnxruntime's errors have no common base
            raise ExportError(f"{path}: onnxruntime cannot run this network ({cause(error)}).") from error
    if left is not None:
        raise ExportError(
            f"{path}: {found.op_type} at node {found.name!r} chooses by the image what to compute, which has no int8 form; "
            "export the network without data-dependent control flow."
        )
    return resolved, ("branches that the image size decides were resolved",)


def fold(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of ``model`` whose constants, weights computed from constants and stored integers too, are plain initializers.

    Initializers are no longer listed as inputs, and inputs that nobody reads are gone.

    Raises:
        ExportError: a weight cannot be computed, or nothing depends on the input.
    """
    shapes = {value.name: value.type for value in (*model.graph.input, *model.graph.output)}
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    _compute_constants(folded)
    try:
        folded = fold_weights(folded)  # what onnxruntime could not
    except ModelError as error:
        raise ExportError(f"{path}: {error}") from error
    for value in (*folded.graph.input, *folded.graph.output):
        value.type.CopyFrom(shapes[value.name])  # fold_weights frees the batch, which is to be tried and verified here
    prune(folded, [value.name for value in folded.graph.output])
    stored = sum(node.op_type == "DequantizeLinear" for node in model.graph.node)
    left = sum(node.op_type == "DequantizeLinear" for node in folded.graph.node)
    return folded, ((f"{stored - left} weights stored as integers became float32",) if stored > left else ())


def _compute_constants(model: onnx.ModelProto) -> None:
    """Compute, in place and all at once, every node that only reads constants; what the others read of it is stored."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    constant: list[onnx.NodeProto] = []
    rest: list[onnx.NodeProto] = []
    for node in graph.node:
        fixed = node.op_type not in _RANDOM and all(not name or name in known for name in node.input)
        (constant if fixed else rest).append(node)
        if fixed:
            known.update(name for name in node.output if name)
    made = {name for node in constant for name in node.output if name}
    read = list(dict.fromkeys(name for node in rest for name in node.input if name in made))
    if not read or any(value.name in made for value in graph.output):  # fold_weights refuses such an output
        return
    inputs = {name for node in constant for name in node.input}
    alone = onnx.helper.make_graph(
        constant,
        "constants",
        [],
        [onnx.helper.make_empty_tensor_value_info(name) for name in read],
        [tensor for tensor in graph.initializer if tensor.name in inputs],
    )
    try:
        with quiet():
            data = onnx.helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
            session = onnxruntime.InferenceSession(
                data.SerializeToString(), silent_options(), providers=["CPUExecutionProvider"]
            )
            tensors = [
                numpy_helper.from_array(value, name) for name, value in zip(read, session.run(read, {}), strict=True)
            ]
    except Exception:  # a type onnxruntime or numpy lacks: they stay computed, which costs speed alone
        return
    graph.initializer.extend(tensors)
    set_values(graph.node, rest)


def in_opset(model: onnx.ModelProto, path: Path, wanted: int | None) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``model`` in the operator set ``wanted``; None keeps one that can be quantised and otherwise takes 18, if it can.

    Raises:
        ExportError: an operator cannot be converted.
    """
    found = version_of(model)
    if wanted == found or (wanted is None and found in _OPSETS):
        return model, ()
    model.ir_version = max(model.ir_version, 8)
    first: ExportError | None = None
    for version in (wanted,) if wanted else _FALLBACK_OPSETS:
        try:
            with quiet():
                described = onnx.shape_inference.infer_shapes(model)  # the converter asks for ranks
                return with_opset(described, version), (f"operator set {found} became {version}",)
        except ExportError as error:
            first = first or error
        except Exception as error:  # shape inference raises whatever its C++ does
            first = first or ExportError(f"its operator set {found} cannot be converted to {version} ({cause(error)}).")
    raise ExportError(f"{path}: {first}") from first
