"""The input of a network from elsewhere: found out, then made float32 (batch, 3, S, S) for any number of images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from kdedge.errors import ExportError
from kdedge.export.foreign_check import cause
from kdedge.export.foreign_graph import forget_shapes, set_values, unused_name
from kdedge.export.foreign_run import batch_of, open_network, probe, relative_error

__all__ = ["MAX_BATCH", "MAX_SIZE", "Entry", "entry_of", "free_batch", "set_shape", "to_nchw"]

MAX_SIZE = 2048
"""Images with longer sides are refused, lest a damaged file asks for all memory."""

MAX_BATCH = 64
"""Networks that fix more images a run are refused: nobody deploys them, and the probes would not fit into memory."""

_BATCH_TOLERANCE = 1e-5
_ORDERS = {False: "(batch, 3, S, S)", True: "(batch, S, S, 3)"}


@dataclass(frozen=True)
class Entry:
    """What a network takes.

    Attributes:
        name: of its input.
        size: height and width of the images, pixels.
        nhwc: whether the channels come last.
        batch: images a run, 0 for any number.
    """

    name: str
    size: int
    nhwc: bool
    batch: int

    @property
    def shape(self) -> list[int]:
        """Of the input, for the smallest batch."""
        side = [self.size, self.size]
        return [self.batch or 1, *side, 3] if self.nhwc else [self.batch or 1, 3, *side]


def entry_of(model: onnx.ModelProto, path: Path, size: int | None) -> Entry:
    """Read what the network takes; ``size`` is asked for where the file leaves it free.

    Raises:
        ExportError: not one float32 image input with 3 channels and square images.
    """
    value = _only_input(model, path)
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise ExportError(f"{path}: --size {size} is not possible; give 1 to {MAX_SIZE} pixels.")
    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        found = {number: name.lower() for name, number in TensorProto.DataType.items()}.get(
            kind.elem_type, "of no known type"
        )
        raise ExportError(
            f"{path}: its input {value.name!r} is {found}, kdedge feeds float32; "
            "export the network with a float32 input and leave casts and scaling to --mean and --std."
        )
    dims = [max(int(dim.dim_value), 0) for dim in kind.shape.dim] if kind.HasField("shape") else [0] * 4
    shown = _shown(value)
    if len(dims) != 4:
        raise ExportError(
            f"{path}: its input {value.name!r} has shape {shown}; kdedge feeds images, (batch, 3, S, S) or (batch, S, S, 3)."
        )
    if 3 not in (dims[1], dims[3]) and ((dims[1] and dims[3]) or size is None):
        what = "no axis of 3 channels" if dims[1] and dims[3] else "free sizes"
        raise ExportError(
            f"{path}: its input {value.name!r} of shape {shown} has {what}; kdedge feeds RGB images, (batch, 3, S, S) or "
            "(batch, S, S, 3): " + ("give --size." if what == "free sizes" else "give a network for these.")
        )
    orders = (
        [False] if dims[1] == 3 else [True] if dims[3] == 3 else [n for n in (False, True) if not dims[3 if n else 1]]
    )
    batch = dims[0]
    if batch > MAX_BATCH:
        raise ExportError(
            f"{path}: it takes {batch} images a run, {MAX_BATCH} at most are possible; export it for one."
        )
    for nhwc in orders:
        sides = set(dims[1:3] if nhwc else dims[2:4]) - {0}
        if len(sides) > 1:
            raise ExportError(
                f"{path}: its input {value.name!r} of shape {shown} is not square; kdedge feeds square images only."
            )
        entry = Entry(value.name, _size(sides, size, shown, path), nhwc, batch)
        if len(orders) == 1 or _runs(model, entry):
            return entry
    raise ExportError(
        f"{path}: with --size {size} its input {value.name!r} of shape {shown} takes neither (batch, 3, S, S) nor "
        "(batch, S, S, 3); give another --size."
    )


def _only_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    inputs = model.graph.input
    if len(inputs) != 1:
        names = ", ".join(f"{value.name} {_shown(value)}" for value in inputs)
        raise ExportError(f"{path}: it has {len(inputs)} inputs ({names}); kdedge exports networks of one image input.")
    value: onnx.ValueInfoProto = inputs[0]
    return value


def _shown(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return "(unknown)"
    return "(" + ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in kind.shape.dim) + ")"


def _size(sides: set[int], given: int | None, shown: str, path: Path) -> int:
    found = next(iter(sides), None)
    if found is None and given is None:
        raise ExportError(f"{path}: its input of shape {shown} leaves height and width free; give --size.")
    if found is not None and given is not None and found != given:
        raise ExportError(f"{path}: --size {given} was given, the network takes {found} px; leave --size out.")
    size = found or given or 0
    if size > MAX_SIZE:
        raise ExportError(f"{path}: its input of shape {shown} is above the {MAX_SIZE} px that kdedge feeds.")
    return size


def _runs(model: onnx.ModelProto, entry: Entry) -> bool:
    try:
        names = [value.name for value in model.graph.output]
        open_network(model, names, batch=entry.batch or 1, nhwc=entry.nhwc)(probe(entry.size, 1))
    except Exception:  # onnxruntime's errors have no common base
        return False
    return True


def to_nchw(model: onnx.ModelProto, entry: Entry) -> tuple[str, ...]:
    """Make, in place, the input (batch, 3, S, S); what was changed, in words."""
    graph = model.graph
    if not entry.nhwc:
        set_shape(model, entry.batch, entry.size)
        return ()
    new = unused_name(graph, f"{entry.name}_nchw")
    readers = [node for node in graph.node if entry.name in node.input]
    undone = {node.output[0] for node in readers if _perm(node) == [0, 3, 1, 2]}
    if len(undone) == len(readers):  # the network turns its input first of all
        set_values(graph.node, [node for node in graph.node if node.output[0] not in undone])
        for node in graph.node:
            set_values(node.input, [new if name in undone else name for name in node.input])
    else:
        turn = onnx.helper.make_node("Transpose", [new], [entry.name], name=f"{new}_transpose", perm=[0, 2, 3, 1])
        set_values(graph.node, [turn, *graph.node])
    graph.input[0].name = new
    set_shape(model, entry.batch, entry.size)
    return ("the input (batch, S, S, 3) became (batch, 3, S, S)",)


def _perm(node: onnx.NodeProto) -> list[int]:
    return (
        next((list(item.ints) for item in node.attribute if item.name == "perm"), [])
        if node.op_type == "Transpose"
        else []
    )


def set_shape(model: onnx.ModelProto, batch: int, size: int) -> None:
    """Declare, in place, the input's shape; shapes inside, which named others, are dropped."""
    name = model.graph.input[0].name
    shape = [batch or "batch", 3, size, size]
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    forget_shapes(model.graph)


def free_batch(model: onnx.ModelProto, size: int, path: Path) -> tuple[str, ...]:
    """Let the network take any number of images, in place, where the graph allows; what was changed, in words.

    Verified by running several images at once and one by one. Constant shapes that begin with the fixed batch are loosened;
    where that is not enough the batch is fixed.
    """
    fixed = batch_of(model)
    batch = fixed or 1
    images = probe(size, batch + 2)
    names = [value.name for value in model.graph.output]
    try:
        run = open_network(model, names)
        reference = [run(images[start : start + batch]) for start in range(3)]
    except Exception as error:  # onnxruntime's errors have no common base
        raise ExportError(f"{path}: onnxruntime cannot run this network at {size} px ({cause(error)}).") from error

    def free() -> bool:
        set_shape(model, 0, size)
        try:
            run = open_network(model, names)
            together, alone = run(images), run(images[:1])
        except Exception:  # onnxruntime's errors have no common base
            return False
        pairs = [(reference[s][name], together[name][s : s + batch]) for s in range(3) for name in names]
        pairs += [(reference[0][name][:1], alone[name]) for name in names]
        return all(relative_error(a, b) <= _BATCH_TOLERANCE for a, b in pairs)

    became_free = (f"the batch of {batch} became free",)
    if free():
        return became_free if fixed else ()
    shapes = _loosen(model.graph, batch)
    if shapes and free():
        return became_free
    for node, name in shapes:
        node.input[1] = name
    set_shape(model, batch, size)
    return (f"the batch stays {batch}: the network fixes it inside",)


def _loosen(graph: onnx.GraphProto, batch: int) -> list[tuple[onnx.NodeProto, str]]:
    """Let the first axis of each Reshape to a constant (batch, ...) follow the number of images.

    Returns:
        The nodes that were changed, with the names of the shapes they had.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    changed = []
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        shape = numpy_helper.to_array(tensor).reshape(-1) if tensor is not None else np.empty(0, np.int64)
        literal = any(item.name == "allowzero" and item.i for item in node.attribute)  # a 0 is a length of 0
        if len(shape) < 2 or shape[0] != batch or (literal and -1 in shape[1:]):
            continue
        first = 0 if -1 in shape[1:] else -1  # 0 takes the input's, -1 what is left
        name = unused_name(graph, f"{node.name}_shape")
        graph.initializer.append(numpy_helper.from_array(np.array([first, *shape[1:]], np.int64), name))
        changed.append((node, node.input[1]))
        node.input[1] = name
    return changed
