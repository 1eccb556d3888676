"""Attaching a card: what is read from the graph, what is asked for, what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdedge.card import METADATA_KEY
from kdedge.errors import CardError, ExportError, ModelError
from kdedge.export.attach import Given, attach, image_input, output_roles, read_card_file
from kdedge.export.graph import read_card
from kdedge.runtime.classifier import Classifier
from tests.conftest import COLORS, SIZE, color_card, write_color_model
from tests.runtime.test_classifier import write_two_outputs
from tests.runtime.test_info import FULL
from tests.test_imports import loaded_after

Edit = Callable[[onnx.ModelProto], None]
GRAY = (127.5, 127.5, 127.5)
COMPLETE = Given(labels=tuple(COLORS), mean=GRAY, std=GRAY)


def strip(path: Path, edit: Edit = lambda model: None) -> Path:
    """Take the card out of a file and change its graph."""
    model = onnx.load(path)
    del model.metadata_props[:]
    edit(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return strip(write_color_model(tmp_path / "bare.onnx"))


def test_what_a_new_card_says(bare: Path) -> None:
    given = Given(labels=tuple(COLORS), mean=GRAY, std=GRAY, color="bgr", resize="squash")
    card = attach(bare, given)
    assert read_card(bare) == card
    assert (card.name, card.labels, card.precision) == ("bare", tuple(COLORS), "fp32")
    assert (card.preprocess.size, card.preprocess.color, card.preprocess.resize) == (SIZE, "bgr", "squash")
    assert card.outputs == {"logits": "logits"}
    assert card.input == {"name": "input", "dtype": "float32", "layout": "NCHW", "batch": 0}
    assert (card.provenance["opset"], card.provenance["ir_version"]) == (17, 9)
    with pytest.raises(ExportError, match="has a card already"):
        attach(bare, given)


def test_only_the_metadata_changes(bare: Path) -> None:
    before = onnx.load(bare)
    helper.set_model_props(before, {"author": "somebody"})
    onnx.save(before, bare)
    attach(bare, COMPLETE)
    after = onnx.load(bare)
    assert {entry.key for entry in after.metadata_props} == {"author", METADATA_KEY}
    assert after.graph == before.graph


def test_another_file(bare: Path, tmp_path: Path) -> None:
    before = bare.read_bytes()
    out = tmp_path / "new" / "named.onnx"
    attach(bare, COMPLETE, out)
    assert bare.read_bytes() == before
    assert Classifier(out).card.name == "bare"
    with pytest.raises(ExportError, match=r"named\.onnx exists already"):
        attach(bare, COMPLETE, out)
    attach(bare, Given(labels=("a", "b", "c"), mean=GRAY, std=GRAY), out, overwrite=True)
    assert read_card(out).labels == ("a", "b", "c")
    with pytest.raises(ModelError, match=r"an \.onnx file"):
        attach(bare, COMPLETE, tmp_path / "named.bin")


def test_one_thing_of_a_card_is_changed(tmp_path: Path) -> None:
    file = write_color_model(tmp_path / "a.onnx", FULL)
    card = attach(file, Given(mean=(0.0, 0.0, 0.0)), overwrite=True)
    assert card.preprocess.mean == (0, 0, 0)
    assert card.with_(preprocess=FULL.preprocess) == FULL


def test_a_garbled_card_is_replaced(bare: Path) -> None:
    model = onnx.load(bare)
    helper.set_model_props(model, {METADATA_KEY: "{"})
    onnx.save(model, bare)
    with pytest.raises(CardError):
        Classifier(bare)
    attach(bare, COMPLETE, overwrite=True)
    assert Classifier(bare).card.labels == tuple(COLORS)


@pytest.mark.parametrize(
    "ending", [("Softmax",), ("Softmax", "Identity"), ("LogSoftmax",), ("Identity",), ("Sigmoid",)]
)
def test_how_the_network_ends(tmp_path: Path, ending: tuple[str, ...]) -> None:
    def add(model: onnx.ModelProto) -> None:
        name = "logits"
        for kind in ending:
            model.graph.node.append(helper.make_node(kind, [name], [f"{name}x"]))
            name += "x"
        model.graph.output[0].name = name

    file = strip(write_color_model(tmp_path / "a.onnx"), add)
    card = attach(file, COMPLETE)
    soft = ending[0] in ("Softmax", "Sigmoid")
    assert card.outputs == {"probabilities" if soft else "logits": "logits" + "x" * len(ending)}
    image = np.full((SIZE, SIZE, 3), (255, 100, 0), np.uint8)
    found = Classifier(file, threads=1).predict(image, top=3)[0]
    plain = Classifier(write_color_model(tmp_path / "plain.onnx"), threads=1).predict(image, top=3)[0]
    assert found.labels == plain.labels
    if ending != ("Sigmoid",):
        np.testing.assert_allclose(found.probabilities, plain.probabilities, rtol=1e-5)


def test_an_embedding_is_found(tmp_path: Path) -> None:
    file = strip(write_two_outputs(tmp_path / "a.onnx", embedding_first=True))
    card = attach(file, COMPLETE)
    assert card.outputs == {"logits": "logits", "embedding": "embedding"}  # though it is as wide as the answer
    assert Classifier(file).embeddings(np.zeros((2, SIZE, SIZE, 3), np.uint8)).shape == (2, 3)


def test_a_fixed_batch_and_int8_are_seen(tmp_path: Path) -> None:
    def quantize(model: onnx.ModelProto) -> None:
        graph = model.graph
        scale, zero = np.float32(0.05), np.uint8(128)
        graph.initializer.extend(
            [numpy_helper.from_array(np.array(scale), "s"), numpy_helper.from_array(np.array(zero), "z")]
        )
        graph.node.append(helper.make_node("QuantizeLinear", ["logits", "s", "z"], ["q"]))
        graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]))
        graph.output[0].name = "d"

    file = strip(write_color_model(tmp_path / "a.onnx", batch=2), quantize)
    card = attach(file, COMPLETE)
    assert (card.batch, card.precision, card.outputs) == (2, "int8", {"logits": "d"})


def free_size(model: onnx.ModelProto) -> None:
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "side"


def test_a_free_size_must_be_given(tmp_path: Path) -> None:
    file = strip(write_color_model(tmp_path / "a.onnx"), free_size)
    with pytest.raises(ModelError, match="give --size"):
        attach(file, COMPLETE)
    assert attach(file, Given(labels=tuple(COLORS), mean=GRAY, std=GRAY, size=24)).preprocess.size == 24


def channels_last(model: onnx.ModelProto) -> None:
    for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, SIZE, SIZE, 3), strict=True):
        axis.dim_value = length


def half(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def gray(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def first_class(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ArgMax", ["logits"], ["class"], axis=1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("class", TensorProto.INT64, ["batch", 1]))


@pytest.mark.parametrize(
    ("edit", "given", "said"),
    [
        (channels_last, COMPLETE, "channels last, export it as NCHW"),
        (half, COMPLETE, "float16.*with a float32 input"),
        (gray, COMPLETE, r"found input float \(batch, 1, 16, 16\)"),
        (two_inputs, COMPLETE, "found input float .*, mask float"),
        (first_class, COMPLETE, r"a number for each of 3 labels; found class int64 \(batch, 1\)"),
        (lambda _: None, Given(), "give --labels FILE or --card"),
        (lambda _: None, Given(labels=tuple(COLORS)), "give --mean and --std"),
        (lambda _: None, Given(labels=tuple(COLORS), mean=GRAY), "give --mean and --std"),
        (
            lambda _: None,
            Given(labels=("a", "b"), mean=GRAY, std=GRAY),
            r"each of 2 labels; found logits float \(batch, 3\)",
        ),
        (lambda _: None, Given(labels=tuple(COLORS), mean=GRAY, std=GRAY, size=32), "16 x 16 pixels, not 32 x 32"),
        (lambda _: None, Given(color_card(labels=())), "give --labels FILE or --card"),
        (lambda _: None, Given(color_card(outputs={"logits": "scores"})), "'scores' holds the logits"),
        (lambda _: None, Given(color_card(outputs={"probabilities": "logits"})), "'logits' holds probabilities"),
        (lambda _: None, Given(labels=tuple(COLORS), mean=GRAY, std=(0.0, 1.0, 1.0)), "std above zero"),
        (lambda _: None, Given(labels=tuple(COLORS), mean=GRAY, std=GRAY, color="gbr"), "'gbr'"),
    ],
)
def test_what_does_not_fit_leaves_the_file_alone(bare: Path, edit: Edit, given: Given, said: str) -> None:
    strip(bare, edit)
    before = bare.read_bytes()
    with pytest.raises(ModelError, match=said) as caught:
        attach(bare, given)
    assert "/.bare" not in str(caught.value)  # the name of the file that is written first
    assert bare.read_bytes() == before
    assert [path.name for path in bare.parent.glob("*.onnx")] + [*bare.parent.glob(".*")] == ["bare.onnx"]


def test_a_network_that_cannot_run(tmp_path: Path) -> None:
    def never(model: onnx.ModelProto) -> None:
        free_size(model)
        shape = numpy_helper.from_array(np.array([1, 3 * SIZE * SIZE], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node.append(helper.make_node("Reshape", ["input", "shape"], ["whole"]))
        model.graph.node.append(helper.make_node("ReduceSum", ["whole"], ["sum"]))
        model.graph.node.append(helper.make_node("Add", ["logits", "sum"], ["added"]))
        model.graph.output[0].name = "added"

    file = strip(write_color_model(tmp_path / "a.onnx"), never)
    with pytest.raises(ModelError, match=r"a\.onnx: the network failed on cpu \(.*Reshape node"):
        attach(file, Given(labels=tuple(COLORS), mean=GRAY, std=GRAY, size=24))


def test_weights_in_another_file(tmp_path: Path) -> None:
    model = onnx.load(strip(write_color_model(tmp_path / "a.onnx")))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
        )  # raw bytes can lie outside
    (tmp_path / "split").mkdir()
    parts = tmp_path / "split/b.onnx"
    onnx.save(model, parts, save_as_external_data=True, location="weights.bin", size_threshold=0)
    attach(parts, COMPLETE, tmp_path / "c.onnx")
    (tmp_path / "split/weights.bin").unlink()
    assert Classifier(tmp_path / "c.onnx").card.labels == tuple(COLORS)
    with pytest.raises(ModelError, match=r"b\.onnx: not an ONNX file that can be read"):
        attach(parts, COMPLETE)


def test_roles_without_declared_shapes(tmp_path: Path) -> None:
    model = onnx.load(write_color_model(tmp_path / "a.onnx"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert output_roles(model, 3, tmp_path) == {"logits": "logits"}  # inferred
    with pytest.raises(ModelError, match="each of 4 labels"):
        output_roles(model, 4, tmp_path)
    assert image_input(model, tmp_path) == ("input", 0, SIZE)


def test_constants_listed_as_inputs(tmp_path: Path) -> None:
    model = onnx.load(write_color_model(tmp_path / "a.onnx"))
    model.graph.input.insert(0, helper.make_tensor_value_info("bias", TensorProto.FLOAT, [3]))
    assert image_input(model, tmp_path) == ("input", 0, SIZE)


def test_card_files(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(FULL.to_json(), encoding="utf-8")
    assert read_card_file(path) == FULL
    path.write_text("{}")
    for wrong in (path, tmp_path / "absent.json", tmp_path):
        with pytest.raises(CardError, match=str(wrong)):
            read_card_file(wrong)


def test_no_torch_is_needed(tmp_path: Path) -> None:
    assert "torch" not in loaded_after("import kdedge.export.attach", tmp_path)


def test_the_card_of_another_export_says_nothing_of_this_file(tmp_path: Path) -> None:
    """An int8 Jetson file's card on an fp32 file: labels and scores hold, what was measured of that file does not."""
    from tests.conftest import color_card, write_color_model

    other = color_card(
        precision="int8",
        target="jetson",
        parity={"kl": 0.1},
        quantization={"method": "mse"},
        fusion={"conv_total": 1},
        guard={"drop_points": 0.5},
        input={"name": "input", "dtype": "float32", "layout": "NCHW", "batch": 1},
        scores={"test_accuracy": 0.5},
    )
    path = write_color_model(tmp_path / "a.onnx")
    written = attach(path, Given(card=other), overwrite=True)
    assert (written.precision, written.target, written.scores) == ("fp32", "", {"test_accuracy": 0.5})
    assert not any((written.parity, written.quantization, written.fusion, written.guard))
    assert (written.input["batch"], written.labels) == (0, other.labels)
