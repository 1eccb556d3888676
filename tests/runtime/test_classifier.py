"""The classifier: what it takes, what it gives, what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from kdedge.card import ModelCard
from kdedge.errors import CardError, DataError, ModelError
from kdedge.preprocess import Preprocess, decode
from kdedge.runtime.classifier import Classifier, softmax
from tests.conftest import COLORS, color_card, write_color_model


@pytest.fixture(scope="module")
def classifier(color_model: Path) -> Classifier:
    return Classifier(color_model, threads=1)


def test_card_comes_from_the_file(classifier: Classifier) -> None:
    assert classifier.card == color_card()


def test_every_kind_of_image(classifier: Classifier, color_images: Path) -> None:
    path = color_images / "red/0.png"
    pixels = decode(path)
    for images in (path, str(path), path.read_bytes(), pixels, [path], pixels[None], iter([path])):
        (found,) = classifier.predict(images)
        assert found.label == found.labels[0] == "red"
        assert found.probability == found.probabilities[0] > 0.9
        assert sum(found.probabilities) == pytest.approx(1.0, abs=1e-12)
        assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    sources = [found.source for found in classifier.predict([path, path.read_bytes(), pixels])]
    assert sources == [str(path), "bytes", "array"]


def test_many_images_keep_their_order(classifier: Classifier, color_images: Path) -> None:
    paths = sorted(color_images.rglob("*.png"))[::-1]
    together = classifier.predict(paths, top=1)
    assert [found.label for found in together] == [path.parent.name for path in paths]
    assert [found.labels for found in together] == [classifier.predict(path, top=1)[0].labels for path in paths]
    assert classifier.predict([]) == []


def test_top_is_cut_to_the_classes(classifier: Classifier, color_images: Path) -> None:
    path = color_images / "blue/0.png"
    assert len(classifier.predict(path, top=2)[0].labels) == 2
    assert set(classifier.predict(path, top=99)[0].labels) == set(COLORS)
    with pytest.raises(DataError, match="top is 0"):
        classifier.predict(path, top=0)


def test_logits_are_the_network_s(classifier: Classifier) -> None:
    image = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    logits = classifier.logits(classifier.card.preprocess([image, image]))
    np.testing.assert_allclose(logits, [[-4, -4, 4]] * 2, atol=1e-5)
    expected = np.exp(4.0) / (np.exp(4.0) + 2 * np.exp(-4.0))
    assert classifier.predict(image)[0].probability == pytest.approx(expected, rel=1e-6)
    with pytest.raises(DataError, match=r"\(B, 3, 16, 16\)"):
        classifier.logits(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_other_arrays_are_refused(classifier: Classifier, array: np.ndarray) -> None:
    with pytest.raises(DataError, match="RGB array"):
        classifier.predict(array)


def test_other_things_are_refused(classifier: Classifier) -> None:
    with pytest.raises(DataError, match="got int"):
        classifier.predict([3])  # type: ignore[list-item]


def test_a_batch_axis_of_one(tmp_path: Path, color_images: Path) -> None:
    fixed = Classifier(write_color_model(tmp_path / "fixed.onnx", batch=1), threads=1)
    paths = sorted(color_images.rglob("*.png"))
    assert [found.label for found in fixed.predict(paths)] == [path.parent.name for path in paths]


def test_a_card_that_does_not_fit_its_network(tmp_path: Path) -> None:
    wrong = write_color_model(tmp_path / "a.onnx", color_card(preprocess=Preprocess(32)))
    with pytest.raises(ModelError, match=r"its card speaks of \(B, 3, 32, 32\)"):
        Classifier(wrong)
    few = write_color_model(tmp_path / "b.onnx", color_card(labels=("a", "b")))
    with pytest.raises(ModelError, match="its card has 2 labels"):
        Classifier(few)


def test_a_file_without_card(tmp_path: Path, color_model: Path) -> None:
    import onnx

    model = onnx.load(color_model)
    del model.metadata_props[:]
    file = tmp_path / "bare.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CardError, match="no kdedge card"):
        Classifier(file)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    broken = Classifier(write_color_model(tmp_path / "nan.onnx", gain=float("nan")), threads=1)
    with pytest.raises(ModelError, match="not finite"):
        broken.predict(np.zeros((16, 16, 3), np.uint8))


def test_softmax_is_stable() -> None:
    values = softmax(np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]], np.float32))
    np.testing.assert_allclose(values.sum(1), 1.0, atol=1e-15)
    np.testing.assert_array_equal(values[0], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(values[1], np.exp([1.0, 2, 3]) / np.exp([1.0, 2, 3]).sum(), rtol=1e-15)


def test_public_names() -> None:
    import kdedge

    assert kdedge.Classifier is Classifier
    assert kdedge.ModelCard is ModelCard
    assert set(kdedge.__all__) <= set(dir(kdedge))
