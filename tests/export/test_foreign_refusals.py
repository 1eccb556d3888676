"""Files that cannot be used end in one sentence that says what was given and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from kdedge.errors import ExportError
from kdedge.export.foreign import read_foreign
from tests.export.foreign_networks import BODY, CHANNELS, HEAD, SIZE, network, node, write


def refusal(path: Path, **options: Any) -> str:
    """The one sentence; it names the file, and nothing appeared beside it."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ExportError) as caught:
        read_foreign(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith(".")
    assert "\n" not in text
    assert sorted(path.parent.iterdir()) == before
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes that are damaged, cut short"),
        (b"not a network at all", "20 bytes that are damaged, cut short"),
        (b"PK\x03\x04 and so on", "it looks like a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "it looks like an HDF5"),
        (b"\x10\x00\x00\x00ORTM", "it looks like an ORT-format file"),
    ],
)
def test_no_onnx(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    text = refusal(path)
    assert said in text
    assert "export the network to ONNX again" in text


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data = network().SerializeToString()
    for length in (10, len(data) // 2, len(data) - 1, len(data) - 4):
        path.write_bytes(data[:length])
        assert "cut short" in refusal(path)


def test_missing_and_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read (No such file" in refusal(tmp_path / "absent.onnx")
    path = write(tmp_path, network(more={"large": np.zeros(2**19, np.float32)}))
    monkeypatch.setenv("KDEDGE_MAX_MODEL_MB", "1")
    assert "2 MB is above the cap of 1 MB" in refusal(path)
    monkeypatch.setenv("KDEDGE_MAX_MODEL_MB", "many")
    with pytest.raises(ExportError, match="KDEDGE_MAX_MODEL_MB is 'many'"):
        read_foreign(path)


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    text = refusal(path)
    assert "is kept outside, in 'weights.bin'" in text
    assert "external_data=False" in text
    onnx.save(onnx.load(path), path)  # the way out that the message names
    assert read_foreign(path).classes == 4


def test_a_constant_in_another_file(tmp_path: Path) -> None:
    """Not only weights can point at a file; that of a constant would be read as well."""
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "secret")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["s"], value=tensor)
    path = write(tmp_path, network([constant, *BODY, *HEAD, node("Add", "g s", "y")], ["y"]))
    assert "tensor 'secret' is kept outside, in '/etc/passwd'" in refusal(path)
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("s", TensorProto.FLOAT, [4])])
    chosen = helper.make_node("If", ["yes"], ["s2"], then_branch=branch, else_branch=branch)
    nodes = [chosen, *BODY, *HEAD, node("Add", "g s2", "y")]
    assert "tensor 'secret'" in refusal(write(tmp_path, network(nodes, ["y"], more={"yes": np.array(True)})))


@pytest.mark.parametrize(
    ("domain", "hint"),
    [
        ("my.ops", "standard ONNX operators alone"),
        ("com.microsoft", "without onnxruntime's optimiser"),
        ("ai.onnx.ml", "not trees"),
    ],
)
def test_operators_of_others(tmp_path: Path, domain: str, hint: str) -> None:
    odd = helper.make_node("Odd", ["g"], ["y"], name="odd one", domain=domain)
    text = refusal(write(tmp_path, network([*BODY, *HEAD, odd], ["y"], domains={domain: 1})))
    assert f"Odd at node 'odd one' is an operator of '{domain}'" in text
    assert hint in text


def test_an_operator_that_onnxruntime_lacks(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, network([*BODY, *HEAD, node("Foo", "g", "y", name="last")], ["y"])))
    assert "onnxruntime cannot run this network" in text
    assert "No Op registered for Foo" in text
    assert "last" in text


def test_a_network_that_stops_half_way(tmp_path: Path) -> None:
    path = write(tmp_path, network(more={"w": np.ones((CHANNELS + 1, 4), np.float32)}))
    text = refusal(path)
    assert "onnxruntime cannot run this network at 16 px" in text
    assert "Gemm" in text


def _listed(*inputs: tuple[str, int, list[int]]) -> ModelProto:
    model = network([*BODY, *HEAD, node("Add", "g other", "y")], ["y"])
    model.graph.input.extend(helper.make_tensor_value_info(*item) for item in inputs)
    return model


def test_two_inputs(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, _listed(("other", TensorProto.FLOAT, [1, 4]))))
    assert "2 inputs (x (n, 3, 16, 16), other (1, 4))" in text


@pytest.mark.parametrize(
    ("shape", "kind", "size", "said"),
    [
        (("n", 3, SIZE, SIZE), TensorProto.UINT8, None, "is uint8, kdedge feeds float32"),
        (("n", 3, SIZE, SIZE), TensorProto.FLOAT16, None, "is float16, kdedge feeds float32"),
        (("n", 768), TensorProto.FLOAT, None, "has shape (n, 768); kdedge feeds images"),
        (("n", 1, SIZE, SIZE), TensorProto.FLOAT, None, "no axis of 3 channels"),
        (("n", 3, 16, 24), TensorProto.FLOAT, None, "is not square"),
        (("n", 16, 24, 3), TensorProto.FLOAT, None, "is not square"),
        (("n", 3, "h", "w"), TensorProto.FLOAT, None, "leaves height and width free; give --size"),
        (("n", None, None, None), TensorProto.FLOAT, None, "give --size"),
        (None, TensorProto.FLOAT, None, "give --size"),
        (("n", 3, SIZE, SIZE), TensorProto.FLOAT, 32, "--size 32 was given, the network takes 16 px"),
        (("n", 3, "h", "w"), TensorProto.FLOAT, 5000, "--size 5000 is not possible"),
        (("n", 3, 5000, 5000), TensorProto.FLOAT, None, "above the 2048 px"),
        ((10**9, 3, SIZE, SIZE), TensorProto.FLOAT, None, "takes 1000000000 images a run, 64 at most"),
        ((None, None, None, None), TensorProto.FLOAT, 1, "takes neither (batch, 3, S, S) nor (batch, S, S, 3)"),
    ],
)
def test_inputs_that_are_no_images(tmp_path: Path, shape: Any, kind: int, size: int | None, said: str) -> None:
    narrow = node("Conv", "x k kb", "c", kernel_shape=[3, 3])
    path = write(tmp_path, network([narrow, *BODY[1:], *HEAD], shape=shape, kind=kind))
    assert said in refusal(path, size=size)


def test_no_output_of_classes(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, network(BODY, ["r"])))
    assert "found r (batch, 8, 16, 16)" in text
    assert "--output" in text
    single = network([*BODY, *HEAD, node("ReduceMax", "g one", "y")], ["y"], more={"one": np.array([1])})
    assert "two or more classes (batch, classes), found y (batch, 1)" in refusal(write(tmp_path, single))


def test_several_outputs_of_classes(tmp_path: Path) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node("Softmax", "g", "y")], ["g", "y"]))
    assert "(g (batch, 4), y (batch, 4)); choose one with --output" in refusal(path)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, network())
    assert "--output nope: no tensor of that name" in refusal(path, output="nope")
    assert "--embedding w: no tensor of that name is computed from the image" in refusal(path, embedding="w")
    flat = write(tmp_path, network([*BODY, node("Flatten", "r", "long", axis=0), *HEAD, node("Sum", "g", "y")], ["g"]))
    assert "--embedding long: no tensor of that name" in refusal(flat, embedding="long")
    odd = network(
        [*BODY, node("Shape", "r", "s"), *HEAD, node("Cast", "s", "t", to=1), node("ReduceMax", "t", "u")], ["g"]
    )
    odd.graph.node.append(node("Add", "g u", "y"))
    odd.graph.output[0].name = "y"
    assert "--embedding s has shape (batch); give a tensor with one vector" in refusal(
        write(tmp_path, odd), embedding="s"
    )


def test_a_branch_that_the_image_decides(tmp_path: Path) -> None:
    def branch(kind: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)
        return helper.make_graph([node(kind, "g", kind)], kind, [], [value])

    chosen = helper.make_node("If", ["yes"], ["y"], "by look", then_branch=branch("Neg"), else_branch=branch("Abs"))
    nodes = [*BODY, *HEAD, node("ReduceMax", "x", "max", keepdims=0), node("Greater", "max zero", "yes"), chosen]
    text = refusal(write(tmp_path, network(nodes, ["y"], more={"zero": np.float32(0)})))
    assert "If at node 'by look' chooses by the image what to compute" in text


def test_a_quantised_network(tmp_path: Path) -> None:
    scales = {"s": np.float32(0.1), "z": np.uint8(0)}
    both = [node("QuantizeLinear", "g s z", "q", name="quant"), node("DequantizeLinear", "q s z", "y")]
    text = refusal(write(tmp_path, network([*BODY, *HEAD, *both], ["y"], more=scales)))
    assert "quantised already (QuantizeLinear at node 'quant'); give the float32 network" in text
    cast = [node("Cast", "g", "q", to=TensorProto.UINT8), node("DequantizeLinear", "q s z", "y", name="back")]
    assert "DequantizeLinear at node 'back'" in refusal(
        write(tmp_path, network([*BODY, *HEAD, *cast], ["y"], more=scales))
    )


def test_half_precision_and_sparse_weights(tmp_path: Path) -> None:
    half = network(more={"extra": np.ones(3, np.float16)})
    assert "tensor 'extra' is float16; give the float32 file" in refusal(write(tmp_path, half))
    sparse = network()
    values = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "where")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    assert "weight 'thin' is stored sparse" in refusal(write(tmp_path, sparse))


def test_an_output_that_is_not_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node("Sqrt", "g", "s"), node("Log", "s", "y")], ["y"]))
    assert "output 'y' is not finite (NaN or infinity)" in refusal(path)


def test_an_output_that_does_not_depend_on_the_image(tmp_path: Path) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node("Reshape", "w s", "y")], ["g", "y"], more={"s": np.array([-1])}))
    assert "output 'y' of the network does not depend on its input" in refusal(path)


def test_an_opset_out_of_reach(tmp_path: Path) -> None:
    path = write(tmp_path, network([*BODY, *HEAD, node("Mish", "g", "y")], ["y"], opset=18))
    text = refusal(path, opset=13)
    assert "cannot be written in opset 13" in text
    assert "--opset" in text


def test_damage_is_never_more_than_a_sentence(tmp_path: Path) -> None:
    data = network(shape=(1, 3, SIZE, SIZE), opset=11).SerializeToString()
    random = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    said = []
    for _ in range(80):
        damaged = bytearray(data)
        for place in (
            random.integers(0, 400),
            len(data) - 1 - random.integers(0, 120),
        ):  # nodes, and inputs and outputs
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_foreign(path)
        except ExportError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not [text for text in said if "\n" in text or not text.endswith(".")]
