"""The report: whole HTML, nothing from outside, hostile text escaped, absent numbers absent."""

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kdedge.runtime.evaluate import scores
from kdedge.runtime.report.head import Claim, headline
from kdedge.runtime.report.page import Mistake, ReportData, render_report, write_report
from kdedge.runtime.run_reader import read_run
from tests.conftest import color_card
from tests.runtime.page import Page
from tests.runtime.runs import write_run
from tests.test_imports import TRAINING, loaded_after

NAN = float("nan")
HOSTILE = "</title></style><script>alert('x')</script><img src=https://evil.example/a.png>\"&\x00\udce9"


def picture(seed: int, size: tuple[int, int] = (20, 30)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def summary() -> dict[str, Any]:
    row = {
        "bytes": 3_800_000,
        "parameters": 2_500_000,
        "p50_ms": 1.6,
        "p90_ms": 2.0,
        "p99_ms": 2.5,
        "images_per_s": 625.0,
    }
    parity = {"images": 64, "max_abs_error": 3e-6, "cosine": 1.0, "top1_agreement": 0.984, "odd_number": 0.5}
    return {
        "seed": 0,
        "student": "timm/mobilenetv4_conv_small",
        "teacher": "onnx:face.onnx",
        "teacher_accuracy": 0.961,
        "scratch_accuracy": 0.62,
        "student_fp32_accuracy": 0.951,
        "student_int8_accuracy": 0.942,
        "shift_accuracy": 0.57,
        "teacher_shift_accuracy": 0.96,
        "heldout_r2": 0.58,
        "heldout_cosine": 0.81,
        "heldout_knn": 0.87,
        "test_r2": 0.53,
        "test_cosine": 0.79,
        "int8_bytes": 3_800_000,
        "fp32_bytes": 14_900_000,
        "resnet50_fp32_bytes": 94_200_000,
        "resnet50_int8_bytes": 24_100_000,
        "p50_ms": {"student_fp32": 3.9, "student_int8": 1.6, "resnet50_fp32": 38.4, "resnet50_int8": 14.9},
        "speedup": 24.0,
        "size_ratio": 24.8,
        "int8_conv_share": 1.0,
        "parity": {"fp32": parity, "int8": {**parity, "kl": 0.004}},
        "verdict": "The student has learned well.",
        "seconds": {"total": 312.4, "distill": 150.0, "export": 21.0},
        "images": {"labelled": 158, "test": 103, "transfer": 3200, "views": 9600, "heldout": 256},
        "classified": {"image": "a/b.png", "label": "red", "probability": 0.97, "truth": "red"},
        "bench": {
            "rows": [{"model": "convnet", "precision": "int8", "peak_rss_mb": 84.0, **row}],
            "conditions": {"cpu": "A CPU", "governor": "", "cpu_flags": ["avx2"], "versions": {"onnxruntime": "1.23"}},
        },
        "versions": {"kdedge": "0.1"},
        "limits": ["Ten people are few."],
    }


def data(**changes: Any) -> ReportData:
    true = np.repeat(np.arange(3), 10)
    guess = true.copy()
    guess[[0, 15]] = 2
    history: list[dict[str, Any]] = []
    for step in range(10, 200, 10):
        history.append({"step": step, "epoch": step / 10, "loss": 100 / step, "lr": 1e-3})
        if step % 50 == 0:
            history.append({"step": step, "epoch": step / 10, "r2": step / 300 - 0.5, "cosine": 0.5, "knn": 0.6})
    whole = ReportData(
        "first run",
        summary(),
        scores(true, guess, color_card().labels),
        history,
        [Mistake(picture(1), "blue", "red", 0.7), Mistake(picture(2, (300, 200)), "green", "red", NAN)],
        {"labelled": [picture(3)], "views": [picture(4)] * 3, "empty": []},
        ["kdedge quickstart --seed 0"],
    )
    return replace(whole, **changes)


def test_page_is_whole_and_says_it_all() -> None:
    html = render_report(data())
    page = Page(html)
    assert html.startswith("<!doctype html>\n<html lang=")
    wanted = (
        "An int8 student of 3.8\u00a0MB recognises 3 classes with 94\u00a0% accuracy on 30 unseen images, "
        "24× faster and 25× smaller than ResNet-50 in fp32."
    )
    assert page.heads[0] == wanted
    sections = ["Accuracy", "Training", "Speed and size", "Class by class", "Mistakes", "The images"]
    sections += ["Export: what was lost on the way", "How it was made", "What these numbers do not say"]
    heads = iter(page.heads)
    assert all(section in heads for section in sections)  # in this order
    for text in ("kdedge quickstart --seed 0", "Ten people are few.", "The student has learned well.", "A CPU"):
        assert text in page.text
    assert "labelled (158 images)" in page.heads
    assert "empty" not in page.text
    assert "governor" not in page.text
    assert any(tag.get("name") == "viewport" for tag in page.all("meta"))


def test_every_chart_has_a_name() -> None:
    charts = Page(render_report(data())).all("svg")
    assert len(charts) == 8
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert "Student, int8 94.2" in str([chart["aria-label"] for chart in charts])


def test_nothing_comes_from_outside() -> None:
    html = render_report(data())
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert page.all("a")
    assert all(str(link["href"])[0] == "#" and str(link["href"])[1:] in anchors for link in page.all("a"))
    assert page.all("img")
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "default-src 'none'" in str(page.all("meta"))


def everywhere(value: Any) -> Any:
    """The same JSON with every string hostile, and a hostile key in every object of free keys."""
    if isinstance(value, dict):
        return {key: everywhere(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [everywhere(inner) for inner in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_text_is_escaped() -> None:
    bad = everywhere(summary()) | {"noun": HOSTILE}
    for key in ("seconds", "versions", "images"):
        bad[key] = {**bad[key], HOSTILE: 1.0}
    bad["parity"]["int8"] = {HOSTILE: 0.5}
    labels = [f"{i}{HOSTILE}" for i in range(3)]
    page = Page(
        render_report(
            data(
                title=HOSTILE,
                summary=bad,
                scores=scores([0, 1, 2], [0, 1, 1], labels),
                mistakes=[Mistake(picture(0), HOSTILE, HOSTILE, 0.9)],
                gallery={HOSTILE: [picture(1)]},
                commands=[HOSTILE],
            )
        )
    )
    plain_tags = {tag for tag, _ in Page(render_report(data())).tags}
    assert {tag for tag, _ in page.tags} <= plain_tags
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    known = {key for _, attributes in Page(render_report(data())).tags for key in attributes}
    assert {key for _, attributes in page.tags for key in attributes} <= known
    assert "<script>alert" in page.text
    assert not set("\x00\udce9") & set(page.text)


def test_hostile_text_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(path, data(title=HOSTILE))
    assert path.read_text(encoding="utf-8") == render_report(data(title=HOSTILE))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_with_nothing_known_only_the_scores_remain() -> None:
    page = Page(render_report(data(summary={}, history=[], mistakes=[], gallery={}, commands=[])))
    assert page.heads[0] == "An int8 student recognises 3 classes with 93\u00a0% accuracy on 30 unseen images."
    assert [head for head in page.heads if head in {"Accuracy", "Class by class"}] == ["Accuracy", "Class by class"]
    for absent in ("Training", "Speed and size", "Mistakes", "The images", "How it was made", "Harder split"):
        assert absent not in page.heads
    for word in ("ResNet", "eacher", "None", "nan", "{"):
        assert word not in page.text


PARTS = {
    "teacher_accuracy": "Beside its teacher",
    "scratch_accuracy": "Same network from scratch",
    "verdict": "learned well",
    "limits": "do not say",
    "p50_ms": "Latency of one image",
    "int8_conv_share": "run in int8, counted",
    "parity": "same first class",
    "bench": "All that was measured",
    "seconds": "Time by step",
    "classified": "Try-out",
    "versions": "versionskdedge",
}


@pytest.mark.parametrize("empty", ["absent", None, NAN])
@pytest.mark.parametrize("key", summary())
def test_a_missing_value_leaves_its_part_out(key: str, empty: Any) -> None:
    known = summary()
    if empty == "absent":
        del known[key]
    else:
        known[key] = empty
    page = Page(render_report(data(summary=known)))
    assert not re.search(r"\b(nan|None|inf)\b", page.text)
    if key in PARTS:
        assert PARTS[key] not in page.text
        assert PARTS[key] in Page(render_report(data())).text


def test_no_number_of_nan_is_shown_as_zero() -> None:
    known = {"p50_ms": {"student_int8": NAN, "resnet50_fp32": 30.0}, "shift_accuracy": float("inf"), "speedup": -1.0}
    page = Page(render_report(data(summary=known, history=[{"step": 1, "epoch": NAN, "loss": NAN, "r2": NAN}])))
    assert "Training" not in page.heads
    assert "Harder split" not in page.heads
    labels = " ".join(str(chart["aria-label"]) for chart in page.all("svg"))
    assert "Median latency: ResNet-50, fp32 30.0" in labels
    assert "Student, int8 0" not in labels
    assert "faster" not in page.text.lower()


def test_mistakes_are_the_surest_first_and_their_count_is_true() -> None:
    page = Page(render_report(data()))
    assert "All 2 mistakes, the surest first" in page.text
    assert [image["alt"] for image in page.all("img")][:2] == ["blue taken for red", "green taken for red"]
    assert "Mistakes" not in Page(render_report(data(mistakes=[]))).heads
    right = scores([0, 1, 2], [0, 1, 2], color_card().labels)
    assert "None among 3 test images." in Page(render_report(data(mistakes=[], scores=right))).text


def test_thumbnails_keep_colour_and_shape() -> None:
    red = np.zeros((400, 200, 3), np.uint8)
    red[..., 0] = 255
    found = Page(render_report(data(gallery={}, mistakes=[Mistake(red, "a", "b", 0.5)]))).all("img")
    jpeg = base64.b64decode(str(found[0]["src"]).partition(",")[2])
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (144, 72, 3)
    assert np.abs(image[..., ::-1].astype(int) - (255, 0, 0)).max() < 8


def test_many_classes_become_a_list_of_confusions() -> None:
    names = [f"c{i:03d}" for i in range(200)]
    guess = np.arange(200)
    guess[7] = 9
    page = Page(render_report(data(scores=scores(np.arange(200), guess, names))))
    assert "only the most frequent confusions" in page.text
    assert "The 40 classes of 200 with the lowest F1." in page.text
    assert "c007c00911" in page.text


def test_a_class_without_images_gets_a_dash() -> None:
    page = Page(render_report(data(scores=scores([0, 0, 1], [0, 1, 1], color_card().labels))))
    assert "red0–––" in page.text


def test_a_slower_student_is_called_slower() -> None:
    assert headline({"speedup": 0.5, "size_ratio": 3.0}, 2, Claim()) == (
        "An int8 student is 2.0× slower and 3.0× smaller than ResNet-50 in fp32."
    )


def test_with_its_run_a_quickstart_tells_how_it_was_quantised(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    page = Page(render_report(data(run=run)))
    heads = iter(page.heads)
    sections = ["From teacher to device", "Accuracy", "What runs in int8", "The guard", "Files", "Licence and use"]
    assert all(section in heads for section in sections)  # in this order
    assert page.heads[0] == Page(render_report(data())).heads[0]
    assert "Not measured yet" not in page.heads
    assert "Student as trained" not in page.text  # the figures of the summary are of the files


def test_report_needs_no_torch(tmp_path: Path) -> None:
    assert not loaded_after("import kdedge.runtime.report.page", tmp_path) & TRAINING
