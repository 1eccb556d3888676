"""Who makes and who reads each tensor of an ONNX graph, and small edits that keep this straight."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

__all__ = [
    "Shape",
    "Wiring",
    "attribute",
    "constants_to_initializers",
    "drop_unused_initializers",
    "rename_in_nodes",
    "shapes",
]

Shape = tuple[int | None, ...]
"""Length of each axis, None where it is free."""


class Wiring:
    """A snapshot of a graph: take a new one after an edit that is not made through it.

    Attributes:
        producer: tensor name to the node that makes it.
        readers: tensor name to the nodes that read it, one entry a use; nodes that hold subgraphs read what those read.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.outputs = {value.name for value in self.graph.output}
        given = {value.name for value in self.graph.input}
        self._constants = {item.name: item for item in self.graph.initializer if item.name not in given}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in _reads(node):
                self.readers[name].append(node)
            for name in node.output:
                self.producer[name] = node
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def alone(self, name: str) -> bool:
        """Whether one node reads the tensor and nothing else, the user included, sees it."""
        return len(self.readers[name]) == 1 and name not in self.outputs

    def array(self, name: str) -> NDArray[Any] | None:
        """The value of a constant; None if the tensor is computed or given."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def optional(self, node: onnx.NodeProto, index: int) -> str:
        """Name of an input that may be left out; empty if it is."""
        return node.input[index] if len(node.input) > index else ""

    def add(self, like: str, values: NDArray[Any]) -> str:
        """A new float32 constant, called after ``like``; returns its name."""
        taken = {item.name for item in self.graph.initializer} | set(self.producer) | set(self.readers)
        name = next(new for new in (f"{like}_{number}" for number in range(len(taken) + 1)) if new not in taken)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        self._constants[name] = self.graph.initializer[-1]
        return name

    def remove(self, node: onnx.NodeProto) -> None:
        """Take out a node with one data input whose output equals it; a graph output keeps its name.

        Its input must not be a graph input or output if its output is a graph output (see :meth:`removable`).
        """
        before, after = node.input[0], node.output[0]
        self.graph.node.remove(node)
        old, new = (before, after) if after in self.outputs else (after, before)
        rename_in_nodes(self.graph, {old: new})

    def removable(self, node: onnx.NodeProto) -> bool:
        """Whether :meth:`remove` can take the node out."""
        before, after = node.input[0], node.output[0]
        seen = (*self.readers[after], *self.readers[before])
        inner = any(item.type in _GRAPHS for reader in seen for item in reader.attribute)
        return not inner and (after not in self.outputs or (before in self.producer and before not in self.outputs))


_SMALL = 64
"""Longest constant that may be a shape or a list of axes."""

_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for item in node.attribute:
        for graph in (*((item.g,) if item.type == onnx.AttributeProto.GRAPH else ()), *item.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (value.name for value in graph.output)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, ``default`` where it is not given; strings come as bytes."""
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Tensor name to its shape, None for a free axis; tensors of unknown rank are left out."""
    graph = onnx.shape_inference.infer_shapes(_without_weights(model)).graph
    known: dict[str, Shape] = {item.name: tuple(item.dims) for item in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            known[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return known


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large constants are inputs: shapes do not depend on them, and copying them takes seconds."""
    graph = model.graph
    large = [item for item in graph.initializer if len(item.dims) > 1 or max(item.dims, default=1) > _SMALL]
    given = {value.name for value in graph.input}
    inputs = [
        onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
        for item in large
        if item.name not in given
    ]
    names = {item.name for item in large}
    light = onnx.helper.make_graph(
        list(graph.node),
        "shapes",
        [*graph.input, *inputs],
        list(graph.output),
        [item for item in graph.initializer if item.name not in names],
        value_info=list(graph.value_info),
    )
    copy = onnx.helper.make_model(light, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    copy.functions.extend(model.functions)
    return copy


def rename_in_nodes(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let, in place, every node read and make tensors under their new names."""
    for node in graph.node:
        for fields in (node.input, node.output):
            for index, name in enumerate(fields):
                fields[index] = names.get(name, name)


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    """Remove, in place, constants no node reads."""
    used = {name for node in model.graph.node for name in _reads(node)} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def constants_to_initializers(model: onnx.ModelProto) -> int:
    """Turn, in place, Constant nodes that hold a tensor into initializers."""
    nodes = [
        node
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    ]
    outputs = {value.name for value in model.graph.output}
    moved = 0
    for node in nodes:
        if node.output[0] not in outputs:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
            model.graph.node.remove(node)
            moved += 1
    return moved
