"""Charts as inline SVG: bars, curves and a heat map; colours come from the page's style sheet.

All are drawn 360 units wide, a phone's width, so that their letters stay readable there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.runtime.markup import Markup, el, join, plain

__all__ = ["Bar", "Curve", "bars", "curves", "heat_map"]

WIDTH = 360
MOST_POINTS = 500


@dataclass(frozen=True)
class Bar:
    """One horizontal bar.

    Attributes:
        label: what it is.
        value: its length, 0 or more.
        text: the value in words.
        interval: (low, high), drawn as a whisker.
        strong: whether it is what the page is about.
    """

    label: str
    value: float
    text: str
    interval: tuple[float, float] | None = None
    strong: bool = False


@dataclass(frozen=True)
class Curve:
    """A line through (x, y); it breaks where x goes back or y is not finite."""

    name: str
    points: Sequence[tuple[float, float]]


def _svg(title: str, height: float, *parts: object, width: float = WIDTH, **rest: object) -> Markup:
    box = f"0 0 {width:g} {height:g}"
    return el("svg", el("title", title), *parts, viewBox=box, role="img", aria_label=title, **rest)


def _text(x: float, y: float, text: object, class_: str | None = None, anchor: str | None = None) -> Markup:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return el("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _rect(x: float, y: float, width: float, height: float, **rest: object) -> Markup:
    return el("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{max(0.0, width):.1f}", height=f"{height:.1f}", **rest)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def bars(title: str, rows: Sequence[Bar], top: float | None = None) -> Markup:
    """Horizontal bars from 0 to ``top`` (None: the longest), each under its label and number."""
    longest = top or max((row.value for row in rows), default=0.0) or 1.0
    parts: list[Markup] = []
    for place, row in enumerate(rows):
        y = 38.0 * place
        parts.append(_text(0, y + 13, _short(row.label, 36), "strong" if row.strong else None))
        parts.append(_text(WIDTH, y + 13, row.text, "strong" if row.strong else "number", "end"))
        parts.append(_rect(0, y + 19, WIDTH, 11, class_="track"))
        parts.append(_rect(0, y + 19, WIDTH * row.value / longest, 11, class_="bar strong" if row.strong else "bar"))
        if row.interval:
            low, high = (WIDTH * min(bound / longest, 1.0) for bound in row.interval)
            end = WIDTH * row.value / longest
            parts.append(_rect(low, y + 19, end - low, 11, class_="doubt"))  # lets the whisker show on the bar
            parts.append(_line(low, y + 24.5, high, y + 24.5, "whisker"))
            parts += [_line(x, y + 20.5, x, y + 28.5, "whisker") for x in (low, high)]
    spoken = title + ": " + "; ".join(f"{row.label} {row.text}" for row in rows)
    return _svg(spoken, 38 * len(rows) - 4, *parts, class_="chart")


def curves(
    title: str, found: Sequence[Curve], x_name: str, floor_at: float | None = None, ceiling: float | None = None
) -> Markup:
    """Lines over one x axis, told apart by dashes; values below ``floor_at`` are drawn at it."""
    shown = [Curve(curve.name, _thin(curve.points)) for curve in found]
    finite = [(x, y) for curve in shown for x, y in curve.points if isfinite(x) and isfinite(y)]
    if not finite:
        return Markup("")
    ys = [y if floor_at is None else max(y, floor_at) for _, y in finite]
    marks = _ticks(min(*ys, 0.0) if floor_at is not None else min(ys), max(ys) if ceiling is None else ceiling)
    low, high = min(marks[0], min(ys)), max(marks[-1], max(ys))
    left, right, above, below = 38.0, WIDTH - 8.0, 30.0, 190.0
    first, last = min(x for x, _ in finite), max(x for x, _ in finite)

    def across(x: float) -> float:
        return left + (right - left) * ((x - first) / (last - first) if last > first else 0.5)

    def up(y: float) -> float:
        shown_at = y if floor_at is None else max(y, floor_at)
        return below - (below - above) * (shown_at - low) / ((high - low) or 1.0)

    parts = [_line(left, up(mark), right, up(mark), "zero" if mark == 0 else "rule") for mark in marks]
    parts += [_text(left - 6, up(mark) + 4, f"{mark:g}", "tick", "end") for mark in marks]
    for x in _ticks(first, last):
        if first <= x <= last:
            parts.append(_text(across(x), below + 16, f"{x:g}", "tick", "middle"))
    parts.append(_text(right, below + 32, x_name, "tick", "end"))
    at = left
    for place, curve in enumerate(shown):
        parts.append(_line(at, 10, at + 22, 10, f"curve c{place % 3}"))
        end = next((y for _, y in reversed(curve.points) if isfinite(y)), None)
        name = f"{curve.name} {plain(end)}"
        parts.append(_text(at + 27, 14, name, "tick"))
        at += 45 + 6.2 * len(name)
        parts += _path(curve, across, up, f"curve c{place % 3}")
    ends = "; ".join(f"{c.name} ends at {plain(c.points[-1][1])}" for c in shown if isfinite(c.points[-1][1]))
    return _svg(f"{title} against {x_name}: {ends}", below + 38, *parts, class_="chart")


def _path(curve: Curve, across: Any, up: Any, class_: str) -> list[Markup]:
    """One path, begun anew after each gap; a lone point becomes a dot."""
    pieces: list[list[str]] = [[]]
    before = -float("inf")
    for x, y in curve.points:
        good = isfinite(x) and isfinite(y)
        if not good or x < before:
            pieces.append([])
        if good:
            pieces[-1].append(f"{across(x):.1f},{up(y):.1f}")
            before = x
    made = [el("path", d="M" + "L".join(piece), class_=class_) for piece in pieces if len(piece) > 1]
    dots = (piece[0].split(",") for piece in pieces if len(piece) == 1)
    return made + [el("circle", cx=x, cy=y, r=2.5, class_="dot") for x, y in dots]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about ``MOST_POINTS`` of the points, the last among them."""
    step = ceil(len(points) / MOST_POINTS)
    return list(points) if step <= 1 else [*points[:-1:step], points[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``, about four."""
    if high <= low:
        return [low]
    raw = (high - low) / 4
    power = 10.0 ** floor(log10(raw))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= raw * 0.999)
    return [round(step * i, 12) for i in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def heat_map(title: str, labels: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    """Counts (C, C); the darker, the larger the share of the row. The diagonal is framed.

    Letters keep a contrast of 4.5 on every shade, since shades end at half of the accent colour.
    """
    cell = 27.0 if len(labels) <= 16 else 20.0
    margin = 14.0 + 6.4 * min(14, max(len(label) for label in labels))
    side = cell * len(labels)
    whole = counts.sum(1)
    parts: list[Markup] = []
    for i, label in enumerate(labels):
        middle = cell * (i + 0.5)
        parts.append(_text(margin - 6, margin + middle + 4, _short(label, 14), "tick", "end"))
        turn = f"rotate(-90 {margin + middle + 4:.1f} {margin - 6:.1f})"
        parts.append(
            el(
                "text",
                _short(label, 14),
                x=f"{margin + middle + 4:.1f}",
                y=f"{margin - 6:.1f}",
                class_="tick",
                transform=turn,
            )
        )
    lines = "".join(
        f"M{margin:g} {margin + at:g}h{side:g}M{margin + at:g} {margin:g}v{side:g}" for at in _edges(cell, labels)
    )
    parts.append(el("path", d=lines, class_="lattice"))
    for i, j in np.argwhere(counts > 0).tolist():
        count, x, y = int(counts[i, j]), margin + cell * j, margin + cell * i
        shade = 0.1 + 0.4 * float(np.sqrt(count / whole[i]))
        about = el("title", f"{labels[i]} taken for {labels[j]}: {count} of {int(whole[i])}")
        box = _rect(x + 0.5, y + 0.5, cell - 1, cell - 1, class_="cell", fill_opacity=f"{shade:.2f}")
        parts.append(el("g", about, box, _text(x + cell / 2, y + cell / 2 + 4, _brief(count, cell), "count", "middle")))
    frame = "".join(
        f"M{margin + at:g} {margin + at:g}h{cell:g}v{cell:g}h-{cell:g}z" for at in _edges(cell, labels)[:-1]
    )
    parts.append(el("path", d=frame, class_="right"))
    extent = margin + side + 2
    # As wide as reads well, narrower on a phone, but never so narrow that the letters vanish: then it scrolls.
    least = f"min-width:{0.8 * extent:.0f}px"
    return _svg(title, extent, join(parts), width=extent, class_="heat", style=f"width:{1.25 * extent:.0f}px;{least}")


def _edges(cell: float, labels: Sequence[str]) -> list[float]:
    return [cell * place for place in range(len(labels) + 1)]


def _brief(count: int, cell: float) -> str:
    """A count that fits into a cell: ``1.2k`` from where four digits would not."""
    most = 9999 if cell > 24 else 999
    return str(count) if count <= most else f"{count / 1e3:.0f}k" if count >= 9950 else f"{count / 1e3:.1f}k"
