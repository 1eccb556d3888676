"""The card survives the trip through JSON and refuses what it cannot read."""

import json
from pathlib import Path

import pytest

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import CardError, ModelError
from kdedge.preprocess import Preprocess

CARD = ModelCard(
    name="pets",
    labels=("Katze", "犬", "chien d'eau"),
    preprocess=Preprocess(96, color="bgr", resize="squash"),
    student="timm/mobilenetv4_conv_small",
    teacher="torchvision/resnet50",
    precision="int8",
    target="x86",
    parameters=2_600_000,
    outputs={"logits": "logits", "embedding": "embedding"},
    input={"name": "input", "dtype": "float32", "layout": "NCHW", "batch": 1},
    scores={"test_accuracy": 0.91},
    parity={"top1_agreement": 0.99, "images": 300},
    quantization={"method": "percentile"},
    fusion={"conv_total": 3, "conv_int8": 2, "share": 2 / 3},
    guard={"drop_points": 0.3},
    provenance={"versions": {"torch": "2.14"}},
    licence="Apache-2.0",
    notes="A note.",
)


def test_round_trip() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD
    assert ModelCard.from_metadata({METADATA_KEY: CARD.to_json(), "other": "x"}, "file.onnx") == CARD


def test_with_changes_a_copy() -> None:
    assert CARD.with_(precision="fp32").precision == "fp32"
    assert CARD.precision == "int8"


def test_unknown_fields_of_a_later_version_are_passed_over() -> None:
    value = {**CARD.to_dict(), "mood": "sunny"}
    assert ModelCard.from_json(json.dumps(value)) == CARD


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"labels": "abc"},
        {"labels": None},
        {"labels": ["a", "a"]},
        {"preprocess": {"size": 8}},
        {"preprocess": None},
        {"scores": [1]},
        {"parameters": "many"},
        {"name": None},
        {"target": 3},
        {"notes": ["a"]},
        {"outputs": ["logits"]},
        {"outputs": {"logits": 1}},
        {"outputs": {"embedding": ""}},
        {"input": "input"},
        {"input": {"name": 1}},
        {"input": {"batch": "many"}},
        {"input": {"batch": -1}},
        {"input": {"batch": True}},
        {"fusion": []},
        {"guard": 0.3},
    ],
)
def test_garbled_cards_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CardError, match=r"file\.onnx"):
        ModelCard.from_json(json.dumps({**CARD.to_dict(), **change}), "file.onnx")


def test_a_card_of_before_loads() -> None:
    new = {"outputs", "input", "fusion", "guard"}
    old = ModelCard.from_json(json.dumps({key: value for key, value in CARD.to_dict().items() if key not in new}))
    assert old == CARD.with_(outputs={}, input={}, fusion={}, guard={})
    assert (old.answer, old.probability_output, old.embedding_output, old.batch) == ("", False, "", 0)


def test_the_zoo_s_cards_load() -> None:
    for path in (Path(__file__).parents[1] / "models").glob("*/card.json"):
        assert ModelCard.from_json(path.read_text(encoding="utf-8")).labels


def test_what_the_outputs_hold() -> None:
    assert (CARD.answer, CARD.probability_output, CARD.embedding_output, CARD.batch) == (
        "logits",
        False,
        "embedding",
        1,
    )
    soft = CARD.with_(outputs={"probabilities": "softmax_0"}, input={})
    assert (soft.answer, soft.probability_output, soft.embedding_output, soft.batch) == ("softmax_0", True, "", 0)
    both = CARD.with_(outputs={"probabilities": "p", "logits": "l"})
    assert (both.answer, both.probability_output) == ("l", False)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_what_is_no_card_is_refused_by_name(text: str) -> None:
    with pytest.raises(CardError, match=r"file\.onnx"):
        ModelCard.from_json(text, "file.onnx")


def test_a_missing_field_is_named() -> None:
    value = CARD.to_dict()
    del value["labels"]
    with pytest.raises(CardError, match="labels"):
        ModelCard.from_json(json.dumps(value))


def test_a_file_without_card_says_what_to_do() -> None:
    with pytest.raises(CardError, match=r"kdedge export RUN.*kdedge card attach file\.onnx --card.*--labels"):
        ModelCard.from_metadata({}, "file.onnx")
    assert issubclass(CardError, ModelError)


def test_values_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        CARD.with_(scores={"loss": float("nan")}).to_json()
