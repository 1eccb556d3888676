"""Charts, intervals and numbers of a report."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from kdedge.runtime.charts import Bar, Curve, bars, curves, heat_map
from kdedge.runtime.interval import wilson
from kdedge.runtime.markup import (
    Markup,
    el,
    file_size,
    milliseconds,
    number,
    percent,
    plain,
    span_of_time,
    table,
    times,
)
from tests.runtime.page import Page

NAN = float("nan")


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


def test_heat_map_of_large_counts_and_many_classes_keeps_them_inside_the_cells() -> None:
    counts = np.diag([12_345, 1_234, 999])
    assert re.findall(r'class="count"[^>]*>([^<]+)<', heat_map("t", ["a", "b", "c"], counts)) == ["12k", "1234", "999"]
    many = heat_map("t", [f"c{i}" for i in range(20)], np.diag([1_234] * 20))
    assert set(re.findall(r'class="count"[^>]*>([^<]+)<', many)) == {"1.2k"}
    assert len(many) < 20_000  # empty cells cost nothing


def test_a_table_has_headings_with_scope_and_a_name() -> None:
    page = Page(table(("", "a"), [("x", 1)], label="what it holds"))
    assert [(tag, a.get("scope")) for tag, a in page.tags if tag == "th"] == [("th", "col"), ("th", "row")]
    assert [a.get("aria-label") for tag, a in page.tags if tag == "div"] == ["what it holds"]
