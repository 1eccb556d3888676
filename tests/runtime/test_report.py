"""The report: whole HTML, nothing from outside, hostile text escaped, absent numbers absent."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import stats

from kdedge.runtime.charts import Bar, Curve, bars, curves, heat_map
from kdedge.runtime.evaluate import scores
from kdedge.runtime.interval import wilson
from kdedge.runtime.markup import Markup, el, file_size, milliseconds, number, percent, plain, span_of_time, times
from kdedge.runtime.report import Mistake, ReportData, headline, render_report, write_report
from tests.conftest import color_card
from tests.test_imports import TRAINING, loaded_after

NAN = float("nan")
HOSTILE = "</title></style><script>alert('x')</script><img src=https://evil.example/a.png>\"&\x00\udce9"
VOID = {"br", "img", "meta"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps attributes, text by tag, and headings."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.heads: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.heads.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.heads[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


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
    assert not {"script", "link", "iframe", "object", "a", "base"} & {tag for tag, _ in page.tags}
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


@pytest.mark.parametrize("count", [1, 2, 10, 103, 10_000])
def test_wilson_is_scipys(count: int) -> None:
    for hits in {0, 1, count // 2, count - 1, count}:
        wanted = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
        assert wilson(hits / count, count) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wilson_solves_its_equation(share: float) -> None:
    for bound in wilson(share, 57):  # the bounds are where the score test just rejects
        if 0.0 < bound < 1.0:
            assert (share - bound) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * bound * (1 - bound) / 57)


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 5), (-0.1, 5), (NAN, 5)])
def test_wilson_refuses_what_is_no_share(share: float, count: int) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        wilson(share, count)


def test_numbers_in_words() -> None:
    assert [percent(v) for v in (0.0, 1.0, 0.951, 0.9999, 0.0001, None)] == [
        f"{text}\u00a0%" for text in ("0", "100", "95.1", "99.99", "0.01")
    ] + ["–"]
    assert percent(0.996, 0) == "99.6\u00a0%"
    assert [file_size(v) for v in (12, 640_000, 3_820_000, 244e6)] == [
        "12\u00a0bytes", "640\u00a0kB", "3.8\u00a0MB", "244\u00a0MB",
    ]  # fmt: skip
    assert [milliseconds(v) for v in (0.5, 12.34, 123.4)] == ["0.50\u00a0ms", "12.3\u00a0ms", "123\u00a0ms"]
    assert [times(v) for v in (2.34, 14.2)] == ["2.3×", "14×"]
    assert [span_of_time(v) for v in (1.24, 59.4, 60, 192, 3600, 7325)] == [
        "1.2\u00a0s", "59\u00a0s", "1\u00a0min", "3\u00a0min\u00a012\u00a0s", "1\u00a0h", "2\u00a0h\u00a02\u00a0min",
    ]  # fmt: skip
    assert [plain(v) for v in (3.0, 0.12345, 2e-6, 25_557_032, None)] == [
        "3",
        "0.123",
        "2.0e-06",
        "25\u202f557\u202f032",
        "–",
    ]


def test_number_takes_finite_numbers_only() -> None:
    values = {"a": 1, "b": NAN, "c": "2", "d": True, "e": {"f": 0.5}, "g": float("inf")}
    assert [number(values, key) for key in "abcdgz"] == [1.0, None, None, None, None, None]
    assert number(values, "e", "f") == 0.5
    assert number(values, "a", "f") is None


def test_a_slower_student_is_called_slower() -> None:
    assert headline({"speedup": 0.5, "size_ratio": 3.0}, 2, 5) == (
        "An int8 student is 2.0× slower and 3.0× smaller than ResNet-50 in fp32."
    )


def shapes(svg: str, tag: str, class_: str) -> Iterator[dict[str, str | None]]:
    return (a for name, a in Page(svg).tags if name == tag and class_ in str(a.get("class")).split())


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars("t", [Bar("a", 0.25, "25", (0.2, 0.5)), Bar("b", 0.5, "50", strong=True)], top=1.0)
    assert [float(bar["width"] or 0) for bar in shapes(svg, "rect", "bar")] == [90.0, 180.0]
    across = next(iter(shapes(svg, "line", "whisker")))
    assert (across["x1"], across["x2"]) == ("72.0", "180.0")


def test_curves_break_at_nan_and_where_a_new_phase_begins() -> None:
    points = [(1.0, 1.0), (2.0, 2.0), (3.0, NAN), (4.0, 1.0), (5.0, 2.0), (1.0, 3.0)]
    svg = curves("t", [Curve("c", points)], "epoch")
    paths = list(shapes(svg, "path", "curve"))
    assert len(paths) == 2
    assert len(list(shapes(svg, "circle", "dot"))) == 1
    assert "nan" not in svg
    assert curves("t", [Curve("c", [(1.0, NAN)])], "epoch") == ""
    assert len(list(shapes(curves("t", [Curve("c", [(1.0, 0.5)])], "epoch"), "circle", "dot"))) == 1


def test_curves_draw_low_values_at_the_floor_and_say_the_true_one() -> None:
    svg = curves("t", [Curve("c", [(1.0, 0.0), (2.0, -50.0)])], "epoch", -0.2, 1.0)
    path = str(next(iter(shapes(svg, "path", "curve")))["d"])
    ys = [float(pair.split(",")[1]) for pair in path[1:].split("L")]
    assert 0 < ys[0] < ys[1] <= 190
    assert "c ends at -50" in svg


def test_heat_map_shows_every_count_and_no_zero() -> None:
    svg = heat_map("t", ["a", "b"], np.array([[3, 0], [1, 2]]))
    assert "b taken for a: 1 of 3" in svg
    assert re.findall(r'class="count"[^>]*>(\d+)<', svg) == ["3", "1", "2"]


def test_markup_escapes_but_itself() -> None:
    assert (
        el("p", "<b>", el("b", "x"), None, title='"<', class_="k")
        == '<p title="&quot;&lt;" class="k">&lt;b&gt;<b>x</b></p>'
    )
    assert isinstance(el("br"), Markup)
    assert el("br") == "<br>"


def test_report_needs_no_torch(tmp_path: Path) -> None:
    assert not loaded_after("import kdedge.runtime.report", tmp_path) & TRAINING
