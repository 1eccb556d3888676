"""What is said of a file, and that nothing of its card is lost."""

import json
from hashlib import sha256
from pathlib import Path

import onnx
import pytest

from kdedge.card import ModelCard
from kdedge.errors import CardError, ModelError
from kdedge.preprocess import Preprocess
from kdedge.runtime.info import Section, read_info, sections
from tests.conftest import SIZE, color_card, write_color_model
from tests.runtime.test_classifier import write_two_outputs

FULL = color_card(
    preprocess=Preprocess(SIZE, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr", "squash"),
    teacher="torchvision/resnet50",
    precision="int8",
    target="x86",
    parameters=2_600_000,
    outputs={"logits": "logits"},
    input={"name": "input", "dtype": "float32", "layout": "NCHW", "batch": 0},
    scores={"test_accuracy": 0.91, "heldout_r2": 0.123456},
    parity={"reference": "student.onnx", "images": 300, "top1_agreement": 0.99, "kl": 0.0125},
    quantization={
        "method": "mse",
        "candidates": {"mse": {"cosine": 0.5}, "minmax": {"cosine": 0.25}},
        "calibration_key": "ab12",
    },
    fusion={
        "conv_total": 40,
        "conv_int8": 38,
        "linear_total": 1,
        "linear_int8": 1,
        "float_nodes": ["c1", "c2"],
        "share": 0.95,
    },
    guard={"drop_points": 0.3, "accuracy_fp32": 0.92, "accuracy_int8": 0.917, "speedup": None},
    provenance={"exported": "2026-01-02", "versions": {"torch": "2.14", "onnx": "1.23"}, "opset": 18, "ir_version": 8},
    expects="aligned face crops",
    licence="Apache-2.0",
    notes="A note.",
    rejection={
        "threshold": 0.25,
        "known_accept": 0.95,
        "false_accept": 0.4,
        "applied": False,
        "choices": [{"threshold": 0.5, "known_accept": 0.7, "false_accept": 0.1, "known": 9, "strangers": 9}],
        "how": "held-out images",
    },
)


def said(card: ModelCard, folder: Path) -> dict[str, dict[str, str]]:
    """Section to key to text."""
    found = sections(read_info(write_color_model(folder / "a.onnx", card)))
    return {section.title: dict(section.lines) for section in found}


def test_facts_of_the_file(tmp_path: Path) -> None:
    path = write_two_outputs(tmp_path / "a.onnx", batch=2)
    info = read_info(str(path))
    assert info.path == path
    assert info.bytes == len(path.read_bytes())
    assert info.sha256 == sha256(path.read_bytes()).hexdigest()
    assert [(value.name, value.dtype, value.shape) for value in (*info.inputs, *info.outputs)] == [
        ("input", "float32", (2, 3, SIZE, SIZE)),
        ("logits", "float32", (2, 3)),
        ("embedding", "float32", (2, 3)),
    ]


def test_the_card_comes_back_whole(tmp_path: Path) -> None:
    value = read_info(write_color_model(tmp_path / "a.onnx", FULL)).to_dict()
    assert ModelCard.from_json(json.dumps(value)) == FULL
    file = value.pop("file")
    assert value == FULL.to_dict()
    assert file["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 3, SIZE, SIZE]}]


def test_everything_is_said(tmp_path: Path) -> None:
    found = said(FULL, tmp_path)
    assert list(found) == [
        "file",
        "network",
        "input and outputs",
        "scores",
        "compared with student.onnx",
        "int8 against fp32",
        "calibration",
        "what runs in int8",
        "the unknown",
        "made",
        "use",
    ]
    network = found["network"]
    assert network["labels"] == "3: blue, green, red"
    assert network["preprocessing"] == (
        "scale it, whatever its ratio, to 16 x 16 pixels; BGR, 0-255; subtract (1.5, 2, 3), divide by (4, 5, 6)"
    )
    assert network["parameters"] == "2,600,000"
    assert network["expects"] == "aligned face crops"
    assert found["input and outputs"]["input"] == "input: float32 (batch, 3, 16, 16) NCHW, any number of images a run"
    assert found["scores"] == {"test accuracy": "91.00%", "heldout R2": "0.1235"}
    assert found["compared with student.onnx"] == {"images": "300", "top1 agreement": "99.00%", "KL": "0.0125"}
    assert found["int8 against fp32"] == {"drop points": "0.3", "accuracy fp32": "92.00%", "accuracy int8": "91.70%"}
    assert found["calibration"]["candidates"] == "mse cosine 0.5; minmax cosine 0.25"
    assert found["what runs in int8"] == {
        "convolutions": "38 of 40",
        "linear layers": "1 of 1",
        "float nodes": "c1, c2",
        "share": "95.00%",
    }
    assert found["the unknown"] == {
        "threshold": "0.250, only applied if asked for",
        "lets pass": "95.0% of known images, 40.0% of strangers",
        "at 0.500": "70.0% of known images, 10.0% of strangers at most",
        "measured on": "held-out images",
    }
    assert found["made"]["versions"] == "torch 2.14; onnx 1.23"
    assert found["use"] == {"licence": "Apache-2.0", "notes": "A note."}


def test_a_bare_card_says_little(tmp_path: Path) -> None:
    found = said(color_card(parameters=0, student=""), tmp_path)
    assert list(found) == ["file", "network", "input and outputs"]
    assert set(found["network"]) == {"name", "labels", "preprocessing", "precision"}
    assert found["network"]["preprocessing"].startswith("cut out the central square, scale it to 16 x 16 pixels; RGB")


def test_many_labels_are_counted(tmp_path: Path) -> None:
    labels = tuple(f"class {number}" for number in range(1000))
    text = said(color_card(labels=labels), tmp_path)["network"]["labels"]
    assert text.startswith("1000: class 0, class 1, ")
    assert text.endswith("class 11 and 988 more")


def test_outputs_and_their_roles(tmp_path: Path) -> None:
    path = write_two_outputs(tmp_path / "a.onnx", softmax=True, batch=1)
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[-1].output[0] = "out"
    card = color_card(outputs={"probabilities": "out", "embedding": "embedding"})
    model.metadata_props[0].value = card.to_json()
    onnx.save(model, path)
    lines = next(section for section in sections(read_info(path)) if section.title == "input and outputs").lines
    assert lines == (
        ("input", "input: float32 (1, 3, 16, 16), 1 image a run"),
        ("output", "out: float32 (1, 3), probabilities"),
        ("output", "embedding: float32 (1, 3)"),
    )


def test_files_that_say_nothing(tmp_path: Path) -> None:
    path = write_color_model(tmp_path / "a.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(CardError, match="kdedge card attach"):
        read_info(path)
    with pytest.raises(ModelError, match="no such model file"):
        read_info(tmp_path / "absent.onnx")


def test_shipped_models() -> None:
    for path in (Path(__file__).parents[2] / "models").glob("*/model.int8.onnx"):
        found = sections(read_info(path))
        assert {"file", "network", "scores", "calibration", "made", "use"} <= {section.title for section in found}
        assert all(isinstance(section, Section) and section.lines for section in found)
