"""The card survives the trip through JSON and refuses what it cannot read."""

import json

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
    scores={"test_accuracy": 0.91},
    parity={"top1_agreement": 0.99, "images": 300},
    quantization={"method": "percentile"},
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
    ],
)
def test_garbled_cards_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CardError):
        ModelCard.from_json(json.dumps({**CARD.to_dict(), **change}), "file.onnx")


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
    with pytest.raises(CardError, match="kdedge export"):
        ModelCard.from_metadata({}, "file.onnx")
    assert issubclass(CardError, ModelError)


def test_values_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        CARD.with_(scores={"loss": float("nan")}).to_json()
