"""Edits for TensorRT change nothing that is computed but the rounding they take away."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdedge.errors import ExportError
from kdedge.export.order import sort_nodes
from kdedge.export.tensorrt import float_outputs, join_activations


def _pair(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]),
    ]


def _model(nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(1, 3, 6, 6)).astype(np.float32)
    return session.run(None, {"x": x})


def _conv() -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w"], ["a"])


def test_a_pair_in_front_of_relu_goes() -> None:
    model = _model([_conv(), *_pair("a"), helper.make_node("Relu", ["a_dq"], ["y"])], ["y"])
    before = _run(model)[0]
    assert join_activations(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]
    assert {tensor.name for tensor in model.graph.initializer} == {"w"}
    assert np.abs(_run(model)[0] - before).max() <= 0.025 + 1e-6 + max(0, np.abs(_run(model)[0]).max() - 6.35)


@pytest.mark.parametrize("case", ["read twice", "an output", "no convolution"])
def test_other_pairs_stay(case: str) -> None:
    relu = helper.make_node("Relu", ["a_dq"], ["y"])
    nodes, outputs = [_conv(), *_pair("a"), relu], ["y"]
    if case == "read twice":
        nodes.append(helper.make_node("Abs", ["a_dq"], ["z"]))
        outputs.append("z")
    elif case == "an output":
        outputs.append("a")
    else:
        nodes[0] = helper.make_node("Abs", ["x"], ["a"])
    model = _model(nodes, outputs)
    assert join_activations(model) == 0
    assert model.graph.node == _model(nodes, outputs).graph.node


def test_an_output_is_given_before_it_is_rounded() -> None:
    nodes = [_conv(), *_pair("a"), helper.make_node("Relu", ["y"], ["z"])]
    nodes[2].output[0] = "y"
    model = _model(nodes, ["z", "y"])
    z, y = _run(model)
    assert float_outputs(model) == 1
    after = _run(model)
    np.testing.assert_array_equal(after[0], z)
    assert 0 < np.abs(np.clip(after[1], -6.4, 6.35) - y).max() <= 0.025 + 1e-6
    assert float_outputs(model) == 0


def test_nodes_are_put_in_order() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), _conv()]
    graph = _model(nodes, ["y"]).graph
    sort_nodes(graph)
    assert [node.op_type for node in graph.node] == ["Conv", "Relu"]
    graph.node[0].input[0] = "nobody"
    with pytest.raises(ExportError, match="reads tensors that nobody makes: a, nobody"):
        sort_nodes(graph)
