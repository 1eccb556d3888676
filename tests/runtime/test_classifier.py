"""The classifier: what it takes, what it gives, what it refuses."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kdedge.card import ModelCard
from kdedge.errors import CardError, DataError, ModelError
from kdedge.preprocess import Preprocess, decode
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.ranking import softmax
from tests.conftest import COLORS, color_card, write_color_model


def write_two_outputs(
    path: Path, softmax: bool = False, batch: str | int = "batch", embedding_first: bool = False
) -> Path:
    """The classifier of colours with its pooled channels, (B, 3), as ``embedding`` and a card that says so."""
    import onnx
    from onnx import TensorProto, helper

    answer = "probabilities" if softmax else "logits"
    card = color_card(outputs={answer: answer, "embedding": "embedding"})
    model = onnx.load(write_color_model(path, card, batch=batch))
    graph = model.graph
    graph.node[1].output[0] = graph.node[2].input[0] = "embedding"
    if softmax:
        graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
        graph.output[0].name = "probabilities"
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3]))
    if embedding_first:
        ordered = [*graph.output][::-1]
        del graph.output[:]
        graph.output.extend(ordered)
    onnx.save(model, path)
    return path


def noisy(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier(color_model: Path) -> Classifier:
    return Classifier(color_model, threads=1)


def test_what_is_no_image_is_refused(color_model: Path) -> None:
    with Classifier(color_model, 1) as classifier:
        with pytest.raises(DataError, match="iterable of images, got int"):
            classifier.predict(3)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="expected a path, bytes or a uint8 RGB array, got int"):
            classifier.predict([3])  # type: ignore[list-item]


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


@pytest.mark.parametrize("batch", [1, 3, 8, 11])
@pytest.mark.parametrize("count", [0, 1, 3, 10, 24])
def test_a_fixed_batch_gives_the_same_as_a_free_one(tmp_path: Path, batch: int, count: int) -> None:
    free = Classifier(write_two_outputs(tmp_path / "free.onnx"), threads=1)
    fixed = Classifier(write_two_outputs(tmp_path / "fixed.onnx", batch=batch), threads=1)
    images = noisy(count)
    expected = free.predict(list(images), top=3)
    found = fixed.predict(list(images), top=3)
    assert [a.labels for a in found] == [a.labels for a in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=1e-6)
    pixels = fixed.card.preprocess(list(images))
    np.testing.assert_allclose(fixed.logits(pixels), free.logits(pixels), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fixed.embeddings(list(images)), free.embeddings(list(images)), rtol=1e-5, atol=1e-6)


def test_embeddings_are_the_penultimate_activations(tmp_path: Path, color_images: Path) -> None:
    classifier = Classifier(write_two_outputs(tmp_path / "a.onnx"), threads=1)
    images = noisy(10)
    expected = (images.astype(np.float64).mean((1, 2)) - 127.5) / 127.5  # the channels' means
    found = classifier.embeddings(images)
    assert (found.dtype, found.shape) == (np.float32, (10, 3))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    path = color_images / "red/0.png"
    assert classifier.embeddings(path).argmax() == 0
    np.testing.assert_array_equal(classifier.embeddings([path, path.read_bytes()])[0], classifier.embeddings(path)[0])
    assert classifier.embeddings([]).shape == (0, 3)


def test_no_embedding_says_what_to_do(classifier: Classifier) -> None:
    with pytest.raises(ModelError, match=r"gives no embedding.*kdedge export RUN"):
        classifier.embeddings(noisy(1))


def test_the_answer_goes_by_its_name(tmp_path: Path) -> None:
    plain = Classifier(write_two_outputs(tmp_path / "a.onnx"), threads=1)
    swapped = Classifier(write_two_outputs(tmp_path / "b.onnx", embedding_first=True), threads=1)
    assert swapped.session.get_outputs()[0].name == "embedding"
    assert swapped.predict(noisy(3)) == plain.predict(noisy(3))
    np.testing.assert_array_equal(swapped.embeddings(noisy(3)), plain.embeddings(noisy(3)))


def test_no_second_softmax(tmp_path: Path) -> None:
    soft = Classifier(write_two_outputs(tmp_path / "soft.onnx", softmax=True), threads=1)
    hard = Classifier(write_two_outputs(tmp_path / "hard.onnx"), threads=1)
    for ours, theirs in zip(soft.predict(noisy(9)), hard.predict(noisy(9)), strict=True):
        assert ours.labels == theirs.labels
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=1e-5)
    pixels = soft.card.preprocess(list(noisy(9)))
    np.testing.assert_allclose(softmax(soft.logits(pixels)), softmax(hard.logits(pixels)), rtol=1e-5)
    np.testing.assert_allclose(soft.probabilities(pixels), hard.probabilities(pixels), rtol=1e-5)


def test_a_probability_of_zero_has_a_finite_logit(tmp_path: Path) -> None:
    sure = Classifier(write_color_model(tmp_path / "a.onnx", color_card(outputs={"probabilities": "logits"}), gain=1.0))
    red = np.full((1, 16, 16, 3), (255, 128, 128), np.uint8)
    pixels = np.maximum(sure.card.preprocess(list(red)), 0)
    pixels[:, 1:] = 0
    np.testing.assert_array_equal(sure.probabilities(pixels), [[0, 0, 1]])
    assert np.isfinite(sure.logits(pixels)).all()
    np.testing.assert_allclose(softmax(sure.logits(pixels)), [[0, 0, 1]], atol=1e-30)


def test_logits_called_probabilities_are_noticed(tmp_path: Path) -> None:
    wrong = Classifier(
        write_color_model(tmp_path / "a.onnx", color_card(outputs={"probabilities": "logits"})), threads=1
    )
    with pytest.raises(ModelError, match=r"holds probabilities; it holds -4 to 4.*kdedge card attach"):
        wrong.predict(np.full((16, 16, 3), (255, 0, 0), np.uint8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outputs": {"logits": "scores"}}, "'scores' holds the logits; its outputs are logits"),
        ({"outputs": {"logits": "logits", "embedding": "deep"}}, "'deep' holds the embedding"),
        ({"input": {"name": "image"}}, "its card speaks of 'image'"),
    ],
)
def test_a_card_that_names_other_tensors(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Classifier(write_color_model(tmp_path / "a.onnx", color_card(**change)))


def test_a_card_with_another_batch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its card speaks of \(4, 3, 16, 16\)"):
        Classifier(write_color_model(tmp_path / "a.onnx", color_card(input={"batch": 4}), batch=2))
    four = Classifier(write_color_model(tmp_path / "b.onnx", color_card(input={"batch": 4})), threads=1)
    assert len(four.predict(noisy(6))) == 6


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


def test_embeddings_beside_the_answer(tmp_path: Path) -> None:
    classifier = Classifier(write_two_outputs(tmp_path / "a.onnx"), threads=1)
    pictures = noisy(11)
    found = classifier.predict(pictures, embedding=True)
    vectors = np.stack([one.embedding for one in found])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, classifier.embeddings(pictures))
    plain = classifier.predict(pictures)
    assert plain == found, "an embedding is no part of what is compared"
    assert plain[0].embedding is None
    with pytest.raises(ModelError, match="gives no embedding"):
        Classifier(write_color_model(tmp_path / "b.onnx")).predict(pictures, embedding=True)


def test_fitted_images_go_in_as_they_are(classifier: Classifier, color_images: Path) -> None:
    paths = sorted(color_images.rglob("*.png"))
    fitted = [classifier.load(path) for path in paths]
    assert fitted[0].shape == (16, 16, 3)
    assert classifier.predict_fitted(fitted, [str(path) for path in paths]) == classifier.predict(paths)
    assert classifier.predict_fitted(np.stack(fitted), top=1)[3].source == "array"
    assert classifier.predict_fitted([]) == []
    with pytest.raises(DataError, match=r"got \(8, 16, 3\)"):
        classifier.predict_fitted([fitted[0], fitted[0][:8]])


def test_closed_means_closed(color_model: Path) -> None:
    with Classifier(color_model) as classifier:
        assert len(classifier.predict(noisy(2))) == 2
    for _ in range(2):
        with pytest.raises(ModelError, match="was closed"):
            classifier.predict(noisy(2))
        classifier.close()


def test_threads_share_one_classifier(tmp_path: Path) -> None:
    """Each thread has its own memory for the input, whatever the size of its batches."""
    classifier = Classifier(write_two_outputs(tmp_path / "a.onnx"), threads=1)
    lots = [noisy(count) for count in (1, 2, 3, 5, 8, 13, 21, 34)]
    wanted = [classifier.predict(lot, embedding=True) for lot in lots]
    with ThreadPoolExecutor(len(lots)) as pool:
        for _ in range(30):
            found = list(pool.map(lambda lot: classifier.predict(lot, embedding=True), lots))
            assert found == wanted
            for ours, theirs in zip(found, wanted, strict=True):
                for one, other in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(one.embedding, other.embedding)


def test_a_network_that_fails_says_where(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run(self, *given: object) -> None:
            raise RuntimeError("CUDA out of memory\nat line 3")

    monkeypatch.setattr(classifier, "session", Broken())
    with pytest.raises(ModelError, match=r"failed on cpu \(CUDA out of memory\)"):
        classifier.predict(noisy(1))


def test_a_name_of_the_zoo_and_a_run_directory(color_model: Path, tmp_path: Path) -> None:
    assert Classifier("cifar10", 1).card.name == "cifar10"
    run = tmp_path / "runs" / "first.v2"
    run.mkdir(parents=True)
    shutil.copy(color_model, run / "student.onnx")
    assert Classifier(run, 1).path == run / "student.onnx"
    with pytest.raises(
        ModelError, match=r"no such model; expected an \.onnx file, a run directory or a name of the zoo"
    ):
        Classifier("cifar11")
    with pytest.raises(ModelError, match=r"absent\.onnx: no such model file"):
        Classifier("absent.onnx")
