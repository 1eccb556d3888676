"""The report of any run: what is known is shown, what is not is named, and nothing is made up."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kdedge.card import ModelCard
from kdedge.data.folder import LabelledImages
from kdedge.preprocess import Preprocess
from kdedge.runtime.evaluate import scores
from kdedge.runtime.report.accuracy import paired_difference
from kdedge.runtime.report.look import Answers, Found, Look, find_images, look
from kdedge.runtime.report.page import render_report
from kdedge.runtime.report.run import recorded_images, report_data, reproduce
from kdedge.runtime.run_reader import Export, RunRecord, read_run
from tests.conftest import color_card
from tests.runtime.page import Page, spoken
from tests.runtime.runs import int8_card, write_images, write_run
from tests.runtime.test_report import HOSTILE

LARGEST_PAGE = 1_500_000
"""Bytes; what the help of ``kdedge report`` promises."""


def page_of(run: RunRecord, data: Path | None = None, bench: dict[str, Any] | None = None) -> Page:
    found = find_images(run, data) if run.exports else None
    return Page(render_report(report_data(run, look(run, found, 1) if found else None, bench)))


def plain_text(page: Page) -> str:
    return re.sub(r"[\u00a0\u202f]", " ", page.text)


def test_a_distilled_run_with_its_test_images(tmp_path: Path) -> None:
    images = write_images(tmp_path / "test")
    page = page_of(read_run(write_run(tmp_path / "run", settings={"test": str(images)})))
    text = plain_text(page)
    assert "recognises 3 classes with 33 % accuracy on 12 unseen images." in plain_text(page)
    heads = iter(page.heads)
    for head in (
        "From teacher to device",
        "Accuracy",
        "Training",
        "Class by class",
        "Mistakes",
        "Where int8 and fp32 disagree",
    ):
        assert head in heads
    # teacher, fp32 and int8 share one chart, for they share the images
    assert (
        "Accuracy, Test images: Teacher, with a linear probe 100 %; Student, fp32 100 %; Student, int8 33.3 %"
        in re.sub("\u00a0", " ", spoken(page))
    )
    assert "All 8 mistakes" in text
    assert "int8 and fp32 answer differently on 8 of 12 images: int8 alone is right on 0, fp32 alone on 8" in text
    for words in (
        "49 680 unlabelled", "2 of 3 convolutions in int8", "calibrated on 300 images (mse)", "file made for x86",
        "its input is the network's, which is not quantised", "2 float islands between int8 layers", "HardSwish",
        "loses 0.25 points of accuracy on 400 held-out images", "1.84× as fast as fp32", "mse, chosen", "c" * 64, "MIT",
        "kdedge distill --teacher run:runs/teacher --out runs/colors", "12 images: one is 8.3 % of accuracy.",
    ):  # fmt: skip
        assert words in text
    assert not re.search(r"\b(nan|None|inf)\b|[{}]", text)


def test_without_images_only_what_was_recorded_is_shown_and_named_so(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    page = page_of(run)
    text = plain_text(page)
    assert "accuracy on its test images (measured before export)." in text
    assert "As the training recorded it. How many images was not recorded, so there is no interval." in text
    assert "Class by class" not in page.heads
    assert "Mistakes" not in page.heads
    assert "Not measured yet" in page.heads
    assert f"kdedge report {run.path} --data DIR" in text
    assert f"kdedge bench {run.path} --out {run.path}/bench.json" in text
    assert "ResNet-50 in fp32" not in text


def test_other_images_never_share_a_chart_with_the_test_images(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    page = page_of(run, write_images(tmp_path / "others"))
    charts = re.sub("\u00a0", " ", spoken(page))
    assert "Accuracy, The images given: Student, fp32 100 %; Student, int8 33.3 %" in charts
    assert "Accuracy, Test images: Teacher, with a linear probe 100 %; Student as trained, fp32 100 %" in charts
    assert "12 images of others" in plain_text(page)
    assert "unseen" not in page.text


def test_validation_images_are_called_that(tmp_path: Path) -> None:
    images = write_images(tmp_path / "val")
    page = page_of(read_run(write_run(tmp_path / "run", settings={"val": str(images)})), images)
    assert "12 validation images" in plain_text(page)
    assert "took part in choosing the weights" in page.text
    assert "Confusions on the validation images" in page.heads


def test_images_that_were_trained_on_are_said_to_be(tmp_path: Path) -> None:
    images = write_images(tmp_path / "test")
    known = sorted(images.rglob("*.png"))[:2]
    text = plain_text(page_of(read_run(write_run(tmp_path / "run", settings={"test": str(images)}, trained=known))))
    assert "on 12 images, some of which it was trained on" in text
    assert "trained on 2 of the 12 images" in text


def fit_card(**scores: float) -> ModelCard:
    made = {"method": "teacher", "student_weights": "random", "steps": 30, "labelled_images": 49000}
    return color_card(scores=scores, provenance=made, target="")


def test_a_teacher_that_was_fitted_and_not_exported(tmp_path: Path) -> None:
    history = [
        {"step": i, "epoch": i / 2, "train_accuracy": i / 10, "val_accuracy": i / 11, "val_loss": 1 / i}
        for i in (1, 2, 3)
    ]
    path = write_run(
        tmp_path / "run",
        fit_card(val_accuracy=0.72, test_accuracy=0.7074, train_accuracy=0.73),
        settings={"method": "teacher", "network": "test/colors"},
        section="fit",
        exported=False,
        history=history,
    )
    page = page_of(read_run(path))
    text = plain_text(page)
    assert page.heads[0].startswith("A teacher recognises 3 classes with 71")
    assert "not exported" in text
    assert f"kdedge export {path} --int8" in text
    assert "Accuracy while training" in page.heads
    assert "Export: what was lost on the way" not in page.heads
    rows = re.findall(r"Teacher as trained, fp32(Test|Validation|Training) images(\d+\.\d) %", text)
    assert rows == [("Test", "70.7"), ("Validation", "72.0"), ("Training", "73.0")]
    charts = re.sub("\u00a0", " ", spoken(page))
    assert "Accuracy, Test images: Teacher as trained, fp32 70.7 %" in charts
    assert "72.0" not in charts  # a test figure is there, so the one that flatters is in the table alone


def test_only_validation_figures(tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "run", fit_card(val_accuracy=0.72), settings={"method": "scratch"}, section="fit", exported=False
    )
    page = page_of(read_run(path))
    assert "on its validation images" in page.heads[0] or "validation images" in page.heads[0]
    assert "flatters" in page.text


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('command = "kdedge distill"\n[distill]\nteacher = "t"\nstudent = "s/x"\n')
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0.1, "loss": 2.0}\n{"step": 2, "epoch": 0.2, "loss": 1.0}\n'
    )
    page = page_of(read_run(tmp_path))
    assert page.heads[0] == "The training of this student is not finished."
    assert f"kdedge distill --resume --out {tmp_path}" in page.text
    assert "Training" in page.heads
    assert not re.search(r"\b(nan|None)\b", page.text)


def test_a_run_without_labels(tmp_path: Path) -> None:
    card = ModelCard("x", (), Preprocess(16), student="test/x", scores={"heldout_r2": 0.5})
    page = page_of(read_run(write_run(tmp_path / "run", card, exported=False)))
    assert page.heads[0] == "A student that imitates its teacher and knows no classes yet."


def test_the_threshold_for_unknown_images(tmp_path: Path) -> None:
    card = int8_card(rejection={"threshold": 0.8123456, "false_accept": 0.05, "scores": [1, 2, 3]})
    page = page_of(read_run(write_run(tmp_path / "run", card)))
    assert "When it answers unknown" in page.heads
    assert "threshold0.8123" in page.text
    assert "false accept0.05" in page.text
    assert "When it answers unknown" not in page_of(read_run(write_run(tmp_path / "without"))).heads


def test_an_old_card_without_fusion_and_guard(tmp_path: Path) -> None:
    old = {"method": "mse", "candidates": {"minmax": 0.9991, "mse": 0.9992}, "images": 300, "int8_conv_share": 1.0}
    run = read_run(write_run(tmp_path / "run", int8_card(quantization=old, fusion={}, guard={}, provenance={})))
    page = page_of(run)
    text = plain_text(page)
    assert "100 % of the convolutions in int8" in text
    assert "0.9992" in text
    assert "mse, chosen" in text
    assert "The guard" not in page.heads
    assert f"kdedge export {run.path} --int8 --overwrite" in text


@pytest.mark.parametrize("field", ["fusion", "guard", "quantization", "parity", "provenance", "scores"])
def test_a_card_of_odd_values_breaks_nothing(tmp_path: Path, field: str) -> None:
    odd = {
        "conv_total": "x",
        "float_nodes": 3,
        "islands": [1, {"ops": None}],
        "speedup": 2,
        "candidates": [1],
        "images": None,
    }
    page = page_of(
        read_run(write_run(tmp_path / "run", int8_card(**{field: {**odd, "drop_points": "much", "method": 7}})))
    )
    assert "Accuracy" in page.heads or field == "scores"


@pytest.mark.parametrize(("steps", "warned"), [(1, "1 step only"), (29, "29 steps only"), (30, ""), (None, "")])
def test_a_run_that_hardly_trained_says_so_first(tmp_path: Path, steps: int | None, warned: str) -> None:
    provenance = {key: value for key, value in int8_card().provenance.items() if key != "steps"}
    card = int8_card(provenance=provenance if steps is None else {**provenance, "steps": steps})
    text = plain_text(page_of(read_run(write_run(tmp_path / "run", card))))
    if warned:
        assert 0 < text.index(f"It was trained for {warned}") < text.index("Beside its teacher")
    else:
        assert "It was trained for" not in text


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    labels = tuple(f"{i}{HOSTILE[:-2]}" for i in range(3))
    card = int8_card(labels=labels, teacher=HOSTILE[:-2], licence="<script>", notes="<img src=x>", name="<b>")
    run = read_run(write_run(tmp_path / "run", card))
    html = render_report(report_data(run))
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "link", "object", "form"}
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    links = [str(a[key]) for _, a in page.tags for key in ("src", "href", "action", "style") if key in a]
    assert not [link for link in links if "//" in link and not link.startswith("data:image/jpeg;base64,")]
    assert "<script>alert" in page.text


@pytest.mark.parametrize(("count", "each"), [(1, 8), (32, 2), (100, 1)])
def test_few_and_many_classes_of_noise_stay_small_enough(tmp_path: Path, count: int, each: int) -> None:
    """Noise makes the largest JPEGs, a network that guesses the most mistakes and changes."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {i:03d}" for i in range(count))
    labels = np.repeat(np.arange(count), each)
    paths = tuple(tmp_path / f"{i}.png" for i in range(len(labels)))
    for path in paths:
        assert cv2.imwrite(str(path), rng.integers(0, 256, (150, 150, 3), dtype=np.uint8))
    card = int8_card(labels=names, preprocess=Preprocess(224))
    answers = {}
    for precision in ("int8", "fp32"):
        guesses = rng.integers(0, count, len(labels))
        export = Export(tmp_path / f"{precision}.onnx", 10, "a" * 64, card.with_(precision=precision))
        answers[precision] = Answers(export, guesses, rng.random(len(labels)), scores(labels, guesses, names))
    found = Found("noise", "given", LabelledImages(paths, tuple(labels.tolist()), names), len(paths), recorded=False)
    run = read_run(write_run(tmp_path / "run", exported=False))
    run = replace(run, card=card, exports=tuple(a.export for a in answers.values()), trained=tuple(map(str, paths)))
    html = render_report(report_data(run, Look(found, paths, labels, 0, 0, (), answers)))
    assert len(html.encode()) < LARGEST_PAGE
    assert "Class by class" in Page(html).heads


def test_recorded_images_are_counted_only_where_the_figure_fits(tmp_path: Path) -> None:
    images = write_images(tmp_path / "test")
    for share, wanted in ((0.75, 12), (0.7, None)):
        path = write_run(
            tmp_path / str(share), int8_card(scores={"test_accuracy": share}), settings={"test": str(images)}
        )
        assert recorded_images(read_run(path)) == wanted
    assert recorded_images(read_run(write_run(tmp_path / "gone"))) is None


def test_what_does_not_fit_together_is_said(tmp_path: Path) -> None:
    images = write_images(tmp_path / "test")
    made = {"fp32_sha256": "0" * 64}
    card = int8_card(scores={"test_accuracy": 0.5}, provenance=made)
    text = plain_text(page_of(read_run(write_run(tmp_path / "run", card, settings={"test": str(images)}))))
    assert "their hashes differ" in text
    assert "Training recorded 50.0 % on the test images, the fp32 file reaches 100 %" in text


def test_commands_are_quoted_and_old_ones_mended(tmp_path: Path) -> None:
    path = write_run(tmp_path / "my run", int8_card(target="arm64"))
    (path / "config.toml").write_text(f'command = "__main__.py teacher fit --out x"\n[fit]\nout = "{path}"\n')
    lines = reproduce(read_run(path))
    assert lines[0] == "kdedge teacher fit --out x"
    assert lines[1] == f"kdedge export '{path}' --int8 --target arm64"
    assert lines[-1] == f"kdedge report '{path}'"


def test_headings_are_in_order_and_anchors_unique(tmp_path: Path) -> None:
    images = write_images(tmp_path / "test")
    page = page_of(read_run(write_run(tmp_path / "run", settings={"test": str(images)})))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in {"row", "col"} for head in page.all("th"))


@pytest.mark.parametrize(("gained", "lost", "images"), [(4, 8, 600), (0, 1, 100), (30, 5, 50)])
def test_interval_of_a_difference_is_the_wald_interval_of_the_adjusted_table(
    gained: int, lost: int, images: int
) -> None:
    """Half a pair is added to each cell; the variance is that of +1, 0 and -1 drawn with those shares."""
    difference, half = paired_difference(gained, lost, images)
    values, weights = np.array([1.0, -1.0, 0.0]), np.array([gained + 0.5, lost + 0.5, images - gained - lost + 1.0])
    shares = weights / weights.sum()
    deviation = np.sqrt((shares * values**2).sum() - (shares * values).sum() ** 2)
    assert difference == pytest.approx((gained - lost) / images)
    assert half == pytest.approx(1.959964 * deviation / np.sqrt(images + 2), rel=1e-6)
