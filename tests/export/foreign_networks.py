"""Small ONNX networks as other tools write them, node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIZE = 16
CLASSES = 4
CHANNELS = 8


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node; names are given as one string, with blanks between them."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


BODY = (
    node("Conv", "x k kb", "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    node("Relu", "c", "r"),
    node("GlobalAveragePool", "r", "p"),
)
HEAD = (node("Flatten", "p", "f"), node("Gemm", "f w wb", "g"))


def weights() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(1)
    shapes = {"k": (CHANNELS, 3, 3, 3), "kb": (CHANNELS,), "w": (CHANNELS, CLASSES), "wb": (CLASSES,)}
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def network(
    nodes: Sequence[NodeProto] = (*BODY, *HEAD),
    outputs: Mapping[str, Sequence[Any] | None] | Sequence[str] = ("g",),
    *,
    shape: Sequence[Any] | None = ("n", 3, SIZE, SIZE),
    kind: int = TensorProto.FLOAT,
    more: Mapping[str, Any] | None = None,
    opset: int = 18,
    ir: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A network with input ``x``; ``more`` are further weights, or others in place of the usual ones."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [
            value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
            for name, value in {**weights(), **(more or {})}.items()
        ],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*item) for item in (domains or {}).items())]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=ir, producer_name="elsewhere", functions=list(functions)
    )


def write(folder: Path, model: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def run(model: onnx.ModelProto | Path, images: NDArray[Any], names: Sequence[str] | None = None) -> list[NDArray[Any]]:
    """The outputs, or the tensors called ``names``, by a plain onnxruntime session."""
    copy = onnx.ModelProto.FromString(model.read_bytes() if isinstance(model, Path) else model.SerializeToString())
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names or () if name not in present)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # its own fusions compute weights stored as integers up to 1 % differently
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(list(names) if names else None, {session.get_inputs()[0].name: images}))


def pictures(count: int = 5, size: int = SIZE) -> NDArray[np.float32]:
    """Random images (count, 3, size, size)."""
    return np.random.default_rng(7).normal(size=(count, 3, size, size)).astype(np.float32)
