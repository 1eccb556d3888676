"""A zoo entry made again from its own weights."""

import shutil
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from benchmarks import zoo_requantise
from kdedge.card import ModelCard
from kdedge.export.inference import onnx_outputs
from kdedge.runtime.classifier import Classifier
from tests.test_benchmarks import check_entry

ENTRY = Path(__file__).parents[1] / "models" / "cifar10"


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    random = np.random.default_rng(0)
    rough = random.integers(0, 256, (20, 4, 4, 3), np.uint8)
    return np.stack([cv2.resize(each, (64, 64), interpolation=cv2.INTER_CUBIC) for each in rough])


def test_the_float_network_says_what_the_int8_one_says(pictures: np.ndarray, tmp_path: Path) -> None:
    card = ModelCard.from_json((ENTRY / "card.json").read_text(encoding="utf-8"))
    plain = zoo_requantise.dequantised(onnx.load(ENTRY / "model.int8.onnx"))
    kinds = {node.op_type for node in plain.graph.node}
    assert "Clip" in kinds
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds
    onnx.save(plain, tmp_path / "plain.onnx")
    wanted = onnx_outputs(ENTRY / "model.int8.onnx", pictures, card.preprocess).logits
    found = onnx_outputs(tmp_path / "plain.onnx", pictures, card.preprocess).logits
    cosine = (wanted * found).sum(1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.min() > 0.9
    assert cosine.mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("unseen", [True, False])
def test_an_entry_is_replaced(unseen: bool, pictures: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(ENTRY, tmp_path / "models" / "cifar10")
    old = ModelCard.from_json((ENTRY / "card.json").read_text(encoding="utf-8"))
    for number, picture in enumerate(pictures):
        place = tmp_path / "data" / old.labels[number % 10] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), picture)
    given = [
        word for option in ("calibrate", *["val"] * unseen, "test") for word in (f"--{option}", str(tmp_path / "data"))
    ]
    entry = zoo_requantise.main(["cifar10", *given, "--models", str(tmp_path / "models"), "--notes", "new"])
    card = ModelCard.from_json((entry / "card.json").read_text(encoding="utf-8"))
    assert card.quantization["reduce_range"]
    assert card.embedding_output
    assert Classifier(entry / "model.int8.onnx").prototypes is not None
    assert not card.rejection["applied"]
    assert card.rejection["how"].startswith("training images") != unseen
    assert (card.name, card.teacher, card.licence, card.notes) == ("cifar10", old.teacher, old.licence, "new")
    assert card.scores["test_accuracy"] == old.scores["test_accuracy"]
    assert card.scores["int8_test_accuracy"] in {number / 20 for number in range(21)}
    commands = tomllib.loads((entry / "recipe.toml").read_text(encoding="utf-8"))["commands"]
    assert "benchmarks.zoo_requantise cifar10" in commands[-1]
    (entry / "recipe.toml").write_text("", encoding="utf-8")  # it holds this test's folders
    check_entry(entry)
