import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdedge.errors import ModelError
from kdedge.training.onnx_reset import reset_weights
from tests.training.conftest import teacher_graph
from tests.training.test_onnx_fold import quantised


def values(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def network(nodes, tensors, shape=("N", 3, 8, 8), output="y"):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_weights_are_he_normal_and_biases_nothing():
    rng = np.random.default_rng(0)
    tensors = {
        "kernel": rng.normal(5, 9, (64, 32, 3, 3)),
        "depthwise": rng.normal(5, 9, (640, 1, 5, 5)),
        "bias": rng.normal(5, 9, 640),
        "matrix": rng.normal(5, 9, (640, 50)),
        "turned": rng.normal(5, 9, (400, 50)),
        "shift": rng.normal(5, 9, 400),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"]),
        helper.make_node("Conv", ["a", "depthwise", "bias"], ["b"], group=64),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "matrix"], ["e"]),
        helper.make_node("Gemm", ["e", "turned", "shift"], ["y"], transB=1),
    ]
    model = network(nodes, tensors)
    before = model.SerializeToString()
    fresh = values(reset_weights(model, seed=3))
    assert model.SerializeToString() == before
    for name, fan in {"kernel": 32 * 9, "depthwise": 25, "matrix": 640, "turned": 50}.items():
        assert fresh[name].shape == tensors[name].shape
        assert fresh[name].std() == pytest.approx(np.sqrt(2 / fan), rel=0.03), name
        assert abs(fresh[name].mean()) < 0.05 * fresh[name].std(), name
    assert not fresh["bias"].any()
    assert not fresh["shift"].any()
    again, other = values(reset_weights(model, seed=3)), values(reset_weights(model, seed=4))
    assert all(np.array_equal(again[name], fresh[name]) for name in fresh)
    assert not np.array_equal(other["kernel"], fresh["kernel"])


def test_norms_become_the_identity_and_constants_stay():
    tensors = {
        "mean": [127.5],
        "kernel": np.ones((4, 3, 1, 1)),
        "slope": np.full((4, 1, 1), 0.7),
        "scale": [2, 3, 4, 5],
        "shift": [1, 1, 2, 2],
        "running_mean": [9, 9, 8, 8],
        "running_var": [4, 4, 4, 4],
    }
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["s"]),
        helper.make_node("Conv", ["s", "kernel"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "running_mean", "running_var"], ["n"]),
        helper.make_node("PRelu", ["n", "slope"], ["y"]),
    ]
    fresh = reset_weights(network(nodes, tensors))
    found = values(fresh)
    assert found["mean"] == 127.5
    session = ort.InferenceSession(fresh.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 8, 8)).astype(np.float32)
    expected = np.einsum("oc,bchw->bohw", found["kernel"][..., 0, 0], x - 127.5)
    expected = np.where(expected < 0, 0.25 * expected, expected)
    assert np.allclose(session.run(None, {"x": x})[0], expected, rtol=1e-3, atol=1e-2)


def test_weights_stored_as_integers_are_unfolded():
    fresh = reset_weights(quantised())
    weights = [value for value in values(fresh).values() if value.ndim == 4]
    assert [w.dtype for w in weights] == [np.float32]
    assert weights[0].std() == pytest.approx(np.sqrt(2 / 27), rel=0.2)
    onnx.checker.check_model(fresh, full_check=True)


def test_the_shape_of_the_network_stays():
    fresh = reset_weights(teacher_graph())
    assert [node.op_type for node in fresh.graph.node] == [node.op_type for node in teacher_graph().graph.node]


def test_what_cannot_be_reset_is_refused():
    nodes = [  # as int8 exports are: weights and activations as integers
        helper.make_node("QuantizeLinear", ["x", "step"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step"], ["d"]),
        helper.make_node("QuantizeLinear", ["kernel", "step"], ["k"]),
        helper.make_node("DequantizeLinear", ["k", "step"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    with pytest.raises(ModelError, match=r"QuantizeLinear, whose weights cannot be drawn anew.*float network"):
        reset_weights(network(nodes, {"step": np.float32(0.1), "kernel": np.ones((4, 3, 1, 1))}))
    turn = helper.make_node("Transpose", ["kernel"], ["k"], perm=[3, 2, 1, 0])
    convolve = helper.make_node("Conv", ["x", "k"], ["y"])
    with pytest.raises(ModelError, match="'k' of the ONNX network is computed"):
        reset_weights(network([turn, convolve], {"kernel": np.ones((1, 1, 3, 4))}))
    with pytest.raises(ModelError, match="nothing to train"):
        reset_weights(network([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {}))
