"""Small ONNX graphs for tests, run and quantised as they are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from kdedge.export.quiet import quiet
from kdedge.export.targets import has_vnni

SHAPE = ("batch", 3, 12, 12)
node = helper.make_node


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal random numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[Any]] | None = None,
    outputs: Sequence[str] = ("y",),
    shape: Sequence[str | int] | None = SHAPE,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model with the float input ``x``; nodes without a name are called after their output."""
    for item in nodes:
        item.name = item.name or item.output[0]
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)  # a valid model's outputs have shapes
    inferred.graph.ClearField("value_info")
    return inferred


def run(model: onnx.ModelProto | Path, x: NDArray[np.float32]) -> list[NDArray[Any]]:
    """All outputs, computed without onnxruntime's own rewrites."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def kinds(model: onnx.ModelProto) -> list[str]:
    return [item.op_type for item in model.graph.node]


def quantise(
    model: onnx.ModelProto | Path,
    path: Path,
    signed: bool = False,
    leave: Sequence[str] = (),
    **extra: Any,
) -> Path:
    """The QDQ form onnxruntime's quantiser writes, calibrated on noise; the results of Gemm stay float."""
    source = path.with_suffix(".fp32.onnx")
    onnx.save(onnx.load(model) if isinstance(model, Path) else model, source)
    given = onnx.load(source).graph.input[0]
    shape = [dim.dim_value or 4 for dim in given.type.tensor_type.shape.dim]
    with quiet():
        quantize_static(
            str(source),
            str(path),
            _Noise([{given.name: values(*shape, seed=seed)} for seed in range(2)]),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=not has_vnni(),  # as kdedge does: 8-bit weights saturate on such a processor
            nodes_to_exclude=list(leave),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"], **extra},
        )
    return path


def optimised(path: Path, config: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The graph onnxruntime's CPU provider runs."""
    from kdedge.export.session import cpu_session

    dump = path.with_suffix(".dump.onnx")
    cpu_session(path, dump, config or {})
    return onnx.load(dump)


def check(function: Callable[[onnx.ModelProto], int], model: onnx.ModelProto, times: int, after: list[str]) -> None:
    """The rewrite does what it should so many times, and every output stays what it was, to the last decimals."""
    names = [value.name for value in model.graph.output]
    x = values(2, 3, 12, 12, seed=7)
    before = run(model, x)
    assert function(model) == times
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == after
    assert [value.name for value in model.graph.output] == names
    read = {name for item in model.graph.node for name in item.input}
    assert {item.name for item in model.graph.initializer} <= read
    for old, new in zip(before, run(model, x), strict=True):
        assert old.shape == new.shape
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    assert function(model) == 0


def leaves(function: Callable[[onnx.ModelProto], int], model: onnx.ModelProto) -> None:
    """The rewrite does nothing at all."""
    before = model.SerializeToString()
    assert function(model) == 0
    assert model.SerializeToString() == before


class _Noise(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[dict[str, NDArray[np.float32]]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)
