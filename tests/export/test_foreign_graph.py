"""What :func:`read_foreign` changes in a network, one thing at a time."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, log_softmax

from kdedge.errors import ExportError
from kdedge.export import foreign as foreign_module
from kdedge.export.foreign import Foreign, read_foreign
from tests.export.foreign_networks import (
    BODY,
    CHANNELS,
    CLASSES,
    HEAD,
    SIZE,
    network,
    node,
    pictures,
    run,
    weights,
    write,
)


def both(path: Path, **options: object) -> tuple[Foreign, list[NDArray[np.float32]], NDArray[np.float32]]:
    """The network in kdedge's form, what it gives for five images, and what the file gives for them one by one."""
    found = read_foreign(path, **options)  # type: ignore[arg-type]
    images = pictures()
    name = str(options.get("output") or onnx.load(path).graph.output[0].name)
    expected = np.concatenate([run(path, image[None], [name])[0] for image in images])
    return found, run(found.model, images), expected


def ops(found: Foreign) -> list[str]:
    return [item.op_type for item in found.model.graph.node]


def test_a_network_in_the_form_already_is_left_alone(tmp_path: Path) -> None:
    found, (logits, embedding), expected = both(write(tmp_path, network()))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert (embedding.shape, found.embedding, found.dim, found.batch) == ((5, CHANNELS), "f", CHANNELS, 0)
    assert [change.split(":")[0] for change in found.changes] == ["the tensor f is given as embedding", "renamed"]


def test_a_fixed_reshape_is_loosened(tmp_path: Path) -> None:
    nodes = [*BODY, node("Reshape", "p s", "f"), HEAD[1]]
    for shape in ([1, CHANNELS], [1, -1]):
        path = write(tmp_path, network(nodes, shape=(1, 3, SIZE, SIZE), more={"s": np.array(shape)}))
        found, (logits, _), expected = both(path)
        assert found.batch == 0
        assert "the batch of 1 became free" in found.changes
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_that_the_graph_fixes_stays(tmp_path: Path) -> None:
    # normalises over the whole batch: it runs with any number of images but then gives other answers
    nodes = [*BODY, *HEAD, node("ReduceMean", "g axes", "m", keepdims=1), node("Sub", "g m", "y")]
    for shape in ((1, 3, SIZE, SIZE), ("n", 3, SIZE, SIZE)):
        path = write(tmp_path, network(nodes, ["y"], shape=shape, more={"axes": np.array([0, 1])}))
        found = read_foreign(path)
        assert found.batch == 1
        assert found.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
        assert "the batch stays 1: the network fixes it inside" in found.changes
        image = pictures(1)
        np.testing.assert_allclose(run(found.model, image)[0], run(path, image)[0], rtol=1e-4, atol=1e-5)


def test_a_batch_of_several_becomes_free(tmp_path: Path) -> None:
    nodes = [*BODY, node("Reshape", "p s", "f"), HEAD[1]]
    path = write(tmp_path, network(nodes, shape=(4, 3, SIZE, SIZE), more={"s": np.array([4, CHANNELS])}))
    found = read_foreign(path)
    assert found.batch == 0
    images = pictures(4)
    np.testing.assert_allclose(run(found.model, images[:1])[0], run(path, images)[0][:1], rtol=1e-4, atol=1e-5)


def test_the_output_of_a_convolution_is_flattened(tmp_path: Path) -> None:
    kernel = np.ascontiguousarray(weights()["w"].T.reshape(CLASSES, CHANNELS, 1, 1))
    nodes = [*BODY, node("Conv", "p w wb", "y", kernel_shape=[1, 1])]
    found, (logits, embedding), expected = both(write(tmp_path, network(nodes, ["y"], more={"w": kernel})))
    assert expected.shape == (5, CLASSES, 1, 1)
    np.testing.assert_allclose(logits, expected[:, :, 0, 0], rtol=1e-4, atol=1e-5)
    assert (found.classes, found.dim, found.embedding, embedding.shape) == (CLASSES, CHANNELS, "p", (5, CHANNELS))


def test_without_a_last_layer_there_is_no_embedding(tmp_path: Path) -> None:
    nodes = [*BODY[:2], node("GlobalMaxPool", "r", "p"), node("Flatten", "p", "y")]
    found, outputs, _ = both(write(tmp_path, network(nodes, ["y"])))
    assert (found.embedding, found.dim, len(outputs)) == ("", None, 1)


@pytest.mark.parametrize(
    ("kind", "role"), [("Softmax", "logits"), ("LogSoftmax", "logits"), ("Sigmoid", "probabilities"), ("Exp", "logits")]
)
def test_what_the_output_is_called(tmp_path: Path, kind: str, role: str) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node(kind, "g", "y")], ["y"]))
    found, (first, *_), expected = both(path)
    assert found.role == role == found.model.graph.output[0].name
    if kind == "LogSoftmax":
        np.testing.assert_allclose(log_softmax(first, 1), expected, rtol=1e-4, atol=1e-5)
    elif kind == "Sigmoid":
        np.testing.assert_allclose(first, expit(run(path, pictures(), ["g"])[0]), rtol=1e-4, atol=1e-5)
    assert (kind in ops(found)) == ("Softmax" not in kind)


def test_a_softmax_written_out_gives_probabilities(tmp_path: Path) -> None:
    nodes = [*BODY, *HEAD, node("Exp", "g", "e"), node("ReduceSum", "e one", "s"), node("Div", "e s", "y")]
    found, (first, *_), expected = both(write(tmp_path, network(nodes, ["y"], more={"one": np.array([1])})))
    assert found.role == "probabilities"
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-6)


def test_weights_stored_as_integers_become_floats(tmp_path: Path) -> None:
    integers = np.random.default_rng(3).integers(-127, 127, (CHANNELS, CLASSES), np.int8)
    nodes = [*BODY, HEAD[0], node("DequantizeLinear", "wq ws wz", "w"), HEAD[1]]
    model = network(nodes, more={"wq": integers, "ws": np.float32(0.01), "wz": np.int8(3)}, opset=13)
    del model.graph.initializer[next(i for i, t in enumerate(model.graph.initializer) if t.name == "w")]
    found, (logits, _), expected = both(write(tmp_path, model))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert "1 weights stored as integers became float32" in found.changes
    assert "DequantizeLinear" not in ops(found)


def test_weights_listed_as_inputs_and_unread_inputs_go(tmp_path: Path) -> None:
    model = network(ir=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    model.graph.input.append(helper.make_tensor_value_info("unread", TensorProto.FLOAT, [1]))
    found = read_foreign(write(tmp_path, model))
    assert [value.name for value in found.model.graph.input] == ["input"]
    assert "weights that were listed as inputs are constants" in found.changes
    assert "inputs that nothing reads were dropped: unread" in found.changes


def test_a_computed_weight_becomes_a_constant(tmp_path: Path) -> None:
    half = helper.make_tensor("", TensorProto.FLOAT, [1], [0.5])
    nodes = [
        node("Constant", "", "half", value=half),
        *BODY,
        HEAD[0],
        node("Mul", "w half", "v0"),
        node("Transpose", "v0", "v", perm=[1, 0]),
        node("Gemm", "f v wb", "g", transB=1),
    ]
    found, (logits, _), expected = both(write(tmp_path, network(nodes)))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert not {"Constant", "Mul", "Transpose"} & set(ops(found))


def test_a_branch_that_the_size_decides_is_resolved(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape at", "side"),
        node("Equal", "side wanted", "small"),
        *BODY,
        *HEAD,
        helper.make_node(
            "If",
            ["small"],
            ["y"],
            then_branch=helper.make_graph([node("Identity", "g", "a")], "t", [], [_value("a")]),
            else_branch=helper.make_graph([node("Neg", "g", "b")], "e", [], [_value("b")]),
        ),
    ]
    more = {"at": np.array(2), "wanted": np.array(SIZE)}
    model = network(nodes, ["y"], shape=("n", 3, "h", "w"), more=more)
    found, (logits, *_), expected = both(write(tmp_path, model), size=SIZE)
    assert "branches that the image size decides were resolved" in found.changes
    assert not {"If", "Neg"} & set(ops(found))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    function = helper.make_function(
        "local", "Head", ["p", "w", "wb"], ["g"], list(HEAD), [helper.make_opsetid("", 18)], []
    )
    nodes = [*BODY, helper.make_node("Head", ["p", "w", "wb"], ["g"], domain="local")]
    model = network(nodes, domains={"local": 1}, functions=[function])
    found, (logits, embedding), expected = both(write(tmp_path, model))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert embedding.shape == (5, CHANNELS)
    assert "local functions were inlined" in found.changes
    assert not found.model.functions


def test_output_and_embedding_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node("Neg", "g", "y")], ["g", "y"]))
    found, (logits, embedding), expected = both(path, output="y", embedding="r")
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embedding, run(path, pictures(), ["r"])[0].mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert found.embedding == "r"
    assert "the tensor r, averaged over positions, is given as embedding" in found.changes


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_free_sizes_with_a_size_given(tmp_path: Path, order: tuple[int, ...]) -> None:
    turned = order != (0, 1, 2, 3)
    front = [node("Transpose", "x", "x0", perm=[0, 3, 1, 2])] if turned else [node("Abs", "x", "x0")]
    conv = node("Conv", "x0 k kb", "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    path = write(tmp_path, network([*front, conv, *BODY[1:], *HEAD], shape=(None, None, None, None)))
    found = read_foreign(path, size=24)
    assert found.size == 24
    images = pictures(2, 24)
    expected = run(path, np.ascontiguousarray(images.transpose(order)))[0]
    np.testing.assert_allclose(run(found.model, images)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_opset_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, network(opset=18))
    found, (logits, _), expected = both(path, opset=17)
    assert (found.model.opset_import[0].version, found.opset) == (17, 18)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert read_foreign(write(tmp_path, network(opset=21, ir=10))).model.opset_import[0].version == 21
    assert read_foreign(write(tmp_path, network(opset=23, ir=11))).model.opset_import[0].version == 18


def test_a_file_that_changed_on_the_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: onnx.ModelProto) -> dict[str, int]:
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "wb")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), "wb"))
        return {}

    monkeypatch.setattr(foreign_module, "rewrite", spoil)
    with pytest.raises(ExportError, match=r"gives other logits \(relative error .* nothing was written"):
        read_foreign(write(tmp_path, network()))
