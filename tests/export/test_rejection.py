"""Prototypes and thresholds in exported files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from torch import nn

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.export import sources
from kdedge.export.graph import read_card, write_card
from kdedge.export.guard import Limits
from kdedge.export.pictures import Pictures
from kdedge.export.recipe import ExportOptions
from kdedge.export.rejection import Known, with_prototypes
from kdedge.export.result import ExportResult
from kdedge.export.sources import export_student
from kdedge.preprocess import Preprocess
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.prototypes import PROTOTYPES_KEY, unit_rows
from kdedge.training.checkpoint import save_weights
from kdedge.training.datasets import Labelled, Material
from kdedge.training.run import Run, load_run
from kdedge.training.students import build_student
from tests.export.conftest import LABELS, SIZE

UNTIMED = Limits(max_drop=100.0, min_speedup=0.0)
PRE = Preprocess(SIZE)


def coloured(seed: int, each: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images of four classes, each of a colour of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), each)
    colors = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])
    noise = rng.integers(-30, 31, (len(labels), SIZE, SIZE, 3))
    return np.clip(colors[labels][:, None, None] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="module")
def exported(small: nn.Module, card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    images, labels = coloured(0)
    heldout, truth = coloured(1)
    return export_student(
        small,
        card,
        tmp_path_factory.mktemp("run"),
        calibration=images,
        heldout=heldout,
        labels=truth,
        known=Known(Pictures(images, PRE), labels),
        options=ExportOptions(method="minmax", limits=UNTIMED),
    )


def test_each_file_has_the_prototypes_that_it_computes(exported: ExportResult) -> None:
    assert exported.int8
    images, labels = coloured(0)
    for file in (exported.fp32, exported.int8):
        with Classifier(file.path, 1) as classifier:
            made = classifier.prototypes
            assert made is not None
            units = made.units(classifier.embeddings(list(images)))
            means = np.stack([units[labels == label].mean(0) for label in range(4)])
            assert (unit_rows(means) * unit_rows(made.means)).sum(1).min() > np.cos(np.radians(0.6))
            assert made.counts.tolist() == [8] * 4
    keys = [entry.key for entry in onnx.load(exported.int8.path).metadata_props]
    assert sorted(keys) == [METADATA_KEY, PROTOTYPES_KEY]


def test_the_card_says_what_the_threshold_does(exported: ExportResult) -> None:
    assert exported.int8
    heldout, _ = coloured(1)
    for file in (exported.fp32, exported.int8):
        said = read_card(file.path).rejection
        assert said["images"] == {"known": 32, "strangers": 32}
        assert "held-out images" in said["how"]
        json.dumps(said, allow_nan=False)
        with Classifier(file.path, 1, unknown=said["threshold"]) as classifier:
            passed = np.mean([not found.unknown for found in classifier.predict(list(heldout))])
            assert passed == pytest.approx(said["known_accept"], abs=1 / 32)  # prototypes were rounded since


def test_held_out_images_alone_will_do(small_onnx: Path, card: ModelCard, tmp_path: Path) -> None:
    images, labels = coloured(2)
    path = _copy(small_onnx, tmp_path)
    told = with_prototypes(
        path, card.with_(outputs={"logits": "logits", "embedding": "embedding"}), None, images, labels
    )
    assert "held-out images, a quarter left out" in told.rejection["how"]
    write_card(path, told)
    with Classifier(path, 1) as classifier:
        assert classifier.prototypes is not None


def test_few_held_out_images_set_no_threshold(small_onnx: Path, card: ModelCard, tmp_path: Path) -> None:
    images, labels = coloured(2)
    known = Known(Pictures(images, PRE), labels)
    card = card.with_(outputs={"logits": "logits", "embedding": "embedding"})
    told = with_prototypes(_copy(small_onnx, tmp_path), card, known, images[::4], labels[::4])
    assert "training images" in told.rejection["how"]
    assert not told.rejection["applied"]


@pytest.mark.parametrize("missing", ["class", "labels", "embedding"])
def test_what_cannot_be_measured_is_left_out(missing: str, small_onnx: Path, card: ModelCard, tmp_path: Path) -> None:
    images, labels = coloured(2)
    path = _copy(small_onnx, tmp_path)
    before = path.read_bytes()
    if missing == "class":
        labels = np.where(labels == 2, -1, labels)
    if missing == "labels":
        labels = np.full(len(labels), -1, np.int64)
    outputs = {"logits": "logits"} | ({} if missing == "embedding" else {"embedding": "embedding"})
    told = with_prototypes(path, card.with_(outputs=outputs, rejection={"old": 1}), None, images, labels)
    assert told.rejection == {}
    assert path.read_bytes() == before


def _copy(source: Path, folder: Path) -> Path:
    path = folder / "copy.onnx"
    path.write_bytes(source.read_bytes())
    return path


def _material() -> Material:
    images, labels = coloured(0, each=2)
    paths = [Path(f"{LABELS[label]}/{row}.png") for row, label in enumerate(labels)]
    return Material(
        LABELS,
        [Path("t/0.png"), Path("t/1.png")],
        images[:2],
        Labelled(paths, images, labels),
        None,
        None,
        held_transfer=np.array([1]),
        held_train=np.array([0, 5]),
    )


def test_a_run_notes_the_labels_of_what_it_trained_on(tmp_path: Path, card: ModelCard) -> None:
    material = _material()
    expected = [
        LABELS.index(path.parent.name) if path.parent.name in LABELS else -1 for path in material.trained_paths()
    ]
    assert material.trained_labels() == expected
    assert expected == [0, 1, 1, 2, 3, 3, -1]
    run = Run(tmp_path)
    run.config.write_text("")
    student = build_student("timm/mobilenetv4_conv_small_035", 4, "random", SIZE)
    run.write_card(card.with_(student="timm/mobilenetv4_conv_small_035"))
    save_weights(run.best, student, {})
    run.write_images(material.trained_paths(), [], None, material.trained_labels())
    loaded = load_run(tmp_path)
    assert loaded.calibration_labels == expected
    known = sources._known(loaded)
    assert known is not None
    assert (len(known.pictures), known.labels.tolist()) == (6, [0, 1, 1, 2, 3, 3])
    listed: dict[str, Any] = json.loads(run.images.read_text())
    del listed["trained_labels"]  # a run of before
    run.images.write_text(json.dumps(listed))
    assert sources._known(load_run(tmp_path)) is None


def test_many_images_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: ModelCard) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(sources, "_KNOWN_IMAGES", 12)
    labels = [0] * 50 + [1] * 3 + [2] * 2 + [3] * 9
    loaded: Any = SimpleNamespace(
        card=card, calibration=[Path(f"{row}.png") for row in range(64)], calibration_labels=labels
    )
    known = sources._known(loaded)
    assert known is not None
    assert np.bincount(known.labels).tolist() == [3, 3, 2, 3]
