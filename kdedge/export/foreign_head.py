"""The end of a network from elsewhere: which output classifies, what stands before its Softmax, and the embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.foreign_check import cause
from kdedge.export.foreign_graph import producers, set_values, unused_name
from kdedge.export.foreign_layout import Entry
from kdedge.export.foreign_run import Images, open_network
from kdedge.export.outputs import LOGITS

__all__ = [
    "Feature",
    "Head",
    "Values",
    "append_vector",
    "choose_output",
    "feature_before",
    "find_head",
    "softmax_before",
    "vector_length",
]

Shapes = Mapping[str, tuple[int, ...]]
Values = Mapping[str, NDArray[Any]]
"""What tensors hold for N images, (N, ...), by name."""

_SUM_TOLERANCE = 1e-3

_PASS = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_TWO_SIDED = ("Add", "Div", "Mul", "Sub")
_POOL = ("AveragePool", "GlobalAveragePool", "ReduceMean")
_THROUGH = (*_PASS, *_TWO_SIDED, *_POOL, "BatchNormalization", "Relu", "Sigmoid", "Transpose")


def vector_length(shape: tuple[int, ...], batch: int) -> int:
    """Numbers an image, if ``shape`` is a vector an image whatever axes of 1 it has; else 0."""
    if len(shape) < 2 or shape[0] != batch:
        return 0
    longest = max(shape[1:])
    return longest if sum(size > 1 for size in shape[1:]) <= 1 else 0


def _shown(shape: tuple[int, ...]) -> str:
    """A shape (N, ...) in words."""
    return f"({', '.join(map(str, ('batch', *shape[1:])))})" if shape else "()"


def choose_output(shapes: Shapes, batch: int, path: Path) -> str:
    """The one tensor of ``shapes`` that can be the answer of a classifier, or the one called ``logits``.

    Raises:
        ExportError: none can be, or several.
    """
    found = [name for name, shape in shapes.items() if vector_length(shape, batch) > 1]
    if len(found) == 1:
        return found[0]
    if LOGITS in found:  # kdedge's own name for it
        return LOGITS
    listed = ", ".join(f"{name} {_shown(shapes[name])}" for name in found or shapes)
    if found:
        raise ExportError(f"{path}: several outputs could be the classes ({listed}); choose one with --output.")
    raise ExportError(
        f"{path}: no output has a number for each of two or more classes (batch, classes), found {listed}; "
        "give a classifier, or a tensor inside it with --output."
    )


def softmax_before(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The Softmax or LogSoftmax that makes the tensor ``name``, looking through changes of shape."""
    made = producers(graph)
    while (node := made.get(name)) is not None:
        if node.op_type in ("LogSoftmax", "Softmax"):
            return node
        if node.op_type not in _PASS:
            return None
        name = node.input[0]
    return None


@dataclass(frozen=True)
class Feature:
    """The tensor that the last weighted layer reads.

    Attributes:
        name: of the tensor.
        pooled: the layer is a 1 x 1 convolution, so that its input means the same averaged over positions.
    """

    name: str
    pooled: bool


def feature_before(graph: onnx.GraphProto, name: str) -> Feature | None:
    """What the last linear layer or convolution in front of the tensor ``name`` reads; None if there is none."""
    made = producers(graph)
    constants = {tensor.name for tensor in graph.initializer}
    while (node := made.get(name)) is not None:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weighted = node.input[1] in constants and node.input[0] not in constants
            usable = weighted and not any(item.name == "transA" and item.i for item in node.attribute)
            kernel = next((list(item.ints) for item in node.attribute if item.name == "kernel_shape"), [1])
            return Feature(node.input[0], node.op_type == "Conv" and set(kernel) == {1}) if usable else None
        if node.op_type not in _THROUGH:
            return None
        sides = [side for side in node.input if side not in constants]
        if node.op_type in _TWO_SIDED and len(sides) != 1:
            return None
        name = sides[0] if node.op_type in _TWO_SIDED else node.input[0]
    return None


@dataclass(frozen=True)
class Head:
    """The tensors of a file that matter.

    Attributes:
        answer: what the file gives as answer.
        inner: what kdedge takes as answer: what the Softmax reads if one is cut off, else ``answer``.
        classes: numbers in an answer.
        role: what ``inner`` is, ``logits`` or ``probabilities``.
        cut: operator that is cut off, '' if none.
        source: what the embedding is made of, '' if there is nothing.
        pooled: whether ``source`` may be averaged over positions.
    """

    answer: str
    inner: str
    classes: int
    role: Literal["logits", "probabilities"]
    cut: str
    source: str
    pooled: bool

    def gives_vector(self, shape: tuple[int, ...], batch: int) -> bool:
        """Whether an embedding can be made of a ``source`` of that shape."""
        return vector_length(shape, batch) > 0 or (self.pooled and len(shape) == 4 and shape[0] == batch)


def find_head(
    file: onnx.ModelProto,
    folded: onnx.ModelProto,
    entry: Entry,
    images: Images,
    output: str | None,
    embedding: str | None,
    path: Path,
) -> tuple[Head, Values]:
    """Which tensors of the file matter, and what the file gives for them, (N, ...) each.

    Args:
        folded: the same network without functions, branches and computed constants.
        output, embedding: tensors to take; None finds them.

    Raises:
        ExportError: it cannot run, gives NaN, or has no such tensors.
    """
    graph = folded.graph
    made = producers(graph)
    for option, name in (("--output", output), ("--embedding", embedding)):
        if name and name not in made:
            near = ", ".join(dict.fromkeys([*(value.name for value in graph.output), *list(made)[-3:]]))
            raise ExportError(
                f"{path}: {option} {name}: no tensor of that name is computed from the image; there is {near}."
            )

    def run(names: list[str]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for model in (file, folded):  # what was inside functions and branches has names in the second only
            here = [name for name in names if name not in found and name in producers(model.graph)]
            if here:
                found |= open_network(model, here, batch=entry.batch or 1, nhwc=entry.nhwc)(images)
        return found

    try:
        values = run([output] if output else [value.name for value in file.graph.output])
        answer = choose_output({name: value.shape for name, value in values.items()}, len(images), path)
        node = softmax_before(graph, answer)
        inner = node.input[0] if node is not None else answer
        feature = feature_before(graph, inner)
        source = embedding or (feature.name if feature else "")
        values |= run([name for name in dict.fromkeys((inner, source)) if name not in values])
    except ExportError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base
        raise ExportError(
            f"{path}: onnxruntime cannot run this network at {entry.size} px ({cause(error)})."
        ) from error
    if not np.isfinite(values[answer]).all():
        raise ExportError(
            f"{path}: its output {answer!r} is not finite (NaN or infinity) for random images; "
            "export the network again, in evaluation mode, and check its weights."
        )
    classes = vector_length(values[answer].shape, len(images))
    if inner not in values or vector_length(values[inner].shape, len(images)) != classes:
        node, inner = None, answer
    head = Head(
        answer=answer,
        inner=inner,
        classes=classes,
        role="probabilities" if node is None and _probable(made[answer], values[answer]) else "logits",
        cut=node.op_type if node is not None else "",
        source=source if source in values else "",
        pooled=bool(embedding) or (feature is not None and feature.pooled),
    )
    if embedding and not head.gives_vector(values[source].shape, len(images)):
        raise ExportError(
            f"{path}: --embedding {embedding} has shape {_shown(values[source].shape)}; give a tensor with one vector an "
            "image, (batch, D)."
        )
    return head, values


def _probable(node: onnx.NodeProto, values: NDArray[Any]) -> bool:
    """Whether an answer (N, ...) is made of probabilities, of all classes together or of each by itself."""
    rows = values.reshape(len(values), -1)
    return node.op_type == "Sigmoid" or bool((rows >= 0).all() and np.abs(rows.sum(1) - 1).max() < _SUM_TOLERANCE)


def append_vector(graph: onnx.GraphProto, name: str, shape: tuple[int, ...], wanted: str) -> str:
    """Append, in place, what makes (batch, D) of the tensor ``name`` of ``shape`` (N, D), (N, D, 1, 1) or (N, D, H, W).

    Args:
        wanted: what new tensors are called after.

    Returns:
        Name of the new tensor; ``name`` itself if it has that shape.
    """
    nodes = []
    if not vector_length(shape, shape[0]):
        name, before = unused_name(graph, f"{wanted}_pooled"), name
        nodes.append(onnx.helper.make_node("GlobalAveragePool", [before], [name], name=name))
    if len(shape) != 2:
        name, before = unused_name(graph, f"{wanted}_flat"), name
        nodes.append(onnx.helper.make_node("Flatten", [before], [name], name=name, axis=1))
    set_values(graph.node, [*graph.node, *nodes])
    return name
