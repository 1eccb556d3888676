"""The bricks of a report: sections, charts with captions, tables of facts."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from kdedge.runtime.interval import wilson
from kdedge.runtime.markup import DASH, SPACE, Markup, el, join, table

__all__ = ["facts", "figure", "grid", "interval", "section"]


def section(title: str, *parts: Markup | None) -> Markup | None:
    """The parts under a heading; None if there are none."""
    inside = join(parts)
    return el("section", el("h2", title), inside) if inside else None


def figure(title: str, chart: Markup | None, note: object = None) -> Markup | None:
    """A chart under its title, with a line of explanation; None without a chart."""
    if not chart:
        return None
    return el("figure", el("h3", title), chart, el("figcaption", note) if note else None)


def grid(*parts: Markup | None) -> Markup | None:
    inside = join(parts)
    return el("div", inside, class_="grid") if inside else None


def interval(share: float | None, count: int | None) -> str:
    """The 95 % Wilson interval, as ``90–98 %``."""
    if share is None or not count:
        return DASH
    low, high = wilson(share, count)
    return f"{100 * low:.0f}–{100 * high:.0f}{SPACE}%"


def facts(values: object) -> Markup | None:
    """Nested JSON values as a table of two columns, without the empty ones."""
    rows = list(_flat(values)) if isinstance(values, Mapping) else []
    made = table((), rows) if rows else None
    return Markup(made.replace("<table>", '<table class="facts">', 1)) if made else None


def _flat(values: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            inner = "; ".join(f"{inner} {text}" for inner, text in _flat(value))
            found += [(name, inner)] if inner else []
        elif isinstance(value, list | tuple):
            found += [(name, ", ".join(map(str, value)))] if value else []
        elif value is not None and value != "" and not (isinstance(value, float) and not isfinite(value)):
            found.append((name, str(value)))
    return found
