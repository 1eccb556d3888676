"""The browser's preprocessing and answers beside Python's, number by number."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext

from kdedge.errors import DataError
from kdedge.export.graph import read_card, write_card
from kdedge.preprocess import Preprocess, decode
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.models import DEFAULT_ZOO, zoo_models
from kdedge.runtime.web.ort_web import Runtime
from kdedge.runtime.web.static import export_static
from tests.conftest import SIZE, color_card, write_color_model
from tests.runtime.knowing import OTHERS, write_knowing
from tests.runtime.knowing import write_pictures as write_painted
from tests.runtime.test_classifier import write_two_outputs
from tests.runtime.web.browser import CLASSIFY, Watch, array, serving
from tests.runtime.web.pictures import write_pictures

EXACT = 0 if platform.machine().lower() in ("x86_64", "amd64") else 1
"""Levels of 256 by which a scaled lossless image may differ: OpenCV has other kernels, which round otherwise, on ARM."""

LOSSY = {"photo.jpg": 3, "turned.jpg": 3, "photo.webp": 3}
"""Levels of 256 by which another decoder of the same file may differ after it was scaled down."""

BLENDED = {"clear.png": 1}
"""Likewise, where transparency is laid on white in whole numbers."""


def classified(
    model: Path, pictures: dict[str, Path], site: Path, context: BrowserContext, isolated: bool = False
) -> dict[str, Any]:
    """What the browser finds for files that are laid into the site."""
    export_static(model, site)
    for name, path in pictures.items():
        (site / name).write_bytes(path.read_bytes())
    with serving(site.parent, isolated) as url:
        page = context.new_page()
        watch = Watch.over(page)
        page.goto(f"{url}/{site.name}/")
        found = page.evaluate(CLASSIFY, list(pictures))
        assert watch.said == []
        assert watch.elsewhere(url) == []
        page.close()
    return {"info": found["info"], **dict(zip(pictures, found["answers"], strict=True))}


CROP = Preprocess(SIZE, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
SQUASH = Preprocess(SIZE, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), color="bgr", resize="squash")


def compare(found: dict[str, Any], pictures: dict[str, Path], classifier: Classifier) -> None:
    """Pixels, the network's input, its output and the answer for each picture."""
    preprocess = classifier.card.preprocess
    for name, path in pictures.items():
        answer = found[name]
        assert "problem" not in answer, (name, answer)
        pixels = array(answer["pixels"], np.uint8).reshape(SIZE, SIZE, 3)
        levels = np.abs(pixels.astype(int) - preprocess.fit(decode(path))).max()
        assert levels <= {**LOSSY, **BLENDED}.get(name, EXACT), (name, levels)
        given = array(answer["input"], np.float32).reshape(-1, 3, SIZE, SIZE)
        np.testing.assert_array_equal(given, preprocess.normalize([pixels] * len(given)), name)
        (expected,) = classifier.predict(path)
        shares = {each["label"]: each["probability"] for each in answer["top"]}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert answer["label"] == answer["top"][0]["label"]
        if expected.probabilities[0] - expected.probabilities[1] > 0.05:
            assert answer["label"] == expected.label, name
        for label, probability in zip(expected.labels, expected.probabilities, strict=True):
            assert shares[label] == pytest.approx(probability, abs=0.02 if name in LOSSY else 0.005), name
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        # the same input gives the same numbers
        own = (
            np.log(classifier.probabilities(given)[0])
            if classifier.card.probability_output
            else classifier.logits(given)[0]
        )
        values = array(answer["values"], np.float32)
        np.testing.assert_allclose(np.log(values) if classifier.card.probability_output else values, own, atol=1e-5)


def test_the_browser_sees_and_says_what_python_does(runtime: Runtime, context: BrowserContext, tmp_path: Path) -> None:
    model = write_color_model(tmp_path / "student.onnx", color_card(preprocess=CROP))
    pictures = write_pictures(tmp_path / "pictures")
    wrong = refused(pictures, tmp_path)
    found = classified(model, {**pictures, **wrong}, tmp_path / "root" / "deep site", context)
    compare(found, pictures, Classifier(model, 1))
    assert found["info"]["threads"] == 1  # of a plain web server
    assert found["info"]["bytes"]["model"] == model.stat().st_size
    for name, path in wrong.items():
        assert found[name]["kind"] == "Problem", found[name]
        assert name in found[name]["problem"]
        with pytest.raises(DataError):
            decode(path)
    assert "cut off" in found["cut.jpg"]["problem"]
    assert "not an image" in found["text.txt"]["problem"]


def refused(whole: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Files that neither side takes."""
    files = {
        "cut.jpg": whole["photo.jpg"].read_bytes()[:-200],
        "cut.png": whole["large.png"].read_bytes()[:-40],
        "cut.webp": whole["photo.webp"].read_bytes()[:-40],
        "text.txt": b"no image at all",
        "empty.png": b"",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


def test_another_preprocessing_and_a_network_that_gives_probabilities(
    runtime: Runtime, context: BrowserContext, tmp_path: Path
) -> None:
    model = write_two_outputs(tmp_path / "student.onnx", softmax=True)
    write_card(model, read_card(model).with_(preprocess=SQUASH))
    pictures = write_pictures(tmp_path / "pictures")
    found = classified(model, pictures, tmp_path / "site", context)
    classifier = Classifier(model, 1)
    assert classifier.card.probability_output
    compare(found, pictures, classifier)


def test_a_file_that_takes_two_images_a_run_on_two_threads(
    runtime: Runtime, context: BrowserContext, tmp_path: Path
) -> None:
    model = write_color_model(tmp_path / "student.onnx", color_card(input={"batch": 2}), batch=2)
    pictures = write_pictures(tmp_path / "pictures")
    context.add_init_script("Object.defineProperty(navigator, 'hardwareConcurrency', { get: () => 5 })")
    found = classified(model, pictures, tmp_path / "site", context, isolated=True)
    compare(found, pictures, Classifier(model, 1))
    assert found["info"]["threads"] == 2


def test_unknown_is_told_in_the_browser_too(
    runtime: Runtime, context: BrowserContext, color_images: Path, tmp_path: Path
) -> None:
    model = write_knowing(tmp_path / "student.onnx", color_images, threshold=0.9, applied=True)
    pictures = {f"{name}.png": write_painted(tmp_path / name, color, 1) / "0.png" for name, color in OTHERS.items()}
    pictures |= {f"{name}.png": color_images / name / "0.png" for name in ("red", "green")}
    found = classified(model, pictures, tmp_path / "site", context)
    answers = Classifier(model, 1).predict(list(pictures.values()))
    assert {answer.unknown for answer in answers} == {True, False}
    for name, expected in zip(pictures, answers, strict=True):
        assert found[name]["unknown"] is expected.unknown, name
        assert found[name]["score"] == pytest.approx(expected.score, abs=1e-4), name


def test_an_int8_file_says_the_same_in_the_browser(runtime: Runtime, context: BrowserContext, tmp_path: Path) -> None:
    """Integers are the same everywhere; where floats are rounded to them, kernels differ by a step now and then."""
    model = zoo_models()[DEFAULT_ZOO]
    pictures = {name: path for name, path in write_pictures(tmp_path / "pictures").items() if name.endswith(".png")}
    found = classified(model, pictures, tmp_path / "site", context)
    classifier = Classifier(model, 1)
    assert classifier.card.precision == "int8"
    for name, path in pictures.items():
        (expected,) = classifier.predict(path, top=100)
        shares = {each["label"]: each["probability"] for each in found[name]["top"]}
        for label, probability in zip(expected.labels, expected.probabilities, strict=True):
            assert shares[label] == pytest.approx(probability, abs=0.05), name
        if expected.probabilities[0] - expected.probabilities[1] > 0.1:
            assert found[name]["label"] == expected.label, name
