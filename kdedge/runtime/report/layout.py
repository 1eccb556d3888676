"""The bricks of a report: sections, charts with captions, tables of facts."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from kdedge.runtime.interval import wilson
from kdedge.runtime.markup import DASH, SPACE, Markup, el, join, plain, table

__all__ = ["Section", "commands", "facts", "figure", "grid", "headed", "interval", "navigation", "section", "some"]

Summary = Mapping[str, Any]
"""JSON values by name, of ``summary.json`` or made in its likeness."""


class Section(Markup):
    """A part of the page with a heading, which the navigation points to."""

    heading: str
    anchor: str


def section(title: str, *parts: Markup | None) -> Section | None:
    """The parts under a heading; None if there are none."""
    inside = join(parts)
    if not inside:
        return None
    anchor = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    made = Section(
        el("section", el("h2", title, id=f"{anchor}-title"), inside, id=anchor, aria_labelledby=f"{anchor}-title")
    )
    made.heading, made.anchor = title, anchor
    return made


def navigation(sections: Iterable[Markup | None]) -> Markup | None:
    """Links to the sections; None if there is nothing to choose from."""
    found = [part for part in sections if isinstance(part, Section)]
    if len(found) < 3:
        return None
    items = (el("li", el("a", part.heading, href=f"#{part.anchor}")) for part in found)
    return el("nav", el("ul", *items), aria_label="Parts of this page")


def headed(title: str, *parts: Markup | None) -> Markup | None:
    """The parts under a smaller heading; None if there are none."""
    inside = join(parts)
    return join((el("h3", title), inside)) if inside else None


def figure(title: str, chart: Markup | None, note: object = None) -> Markup | None:
    """A chart under its title, with a line of explanation; None without a chart."""
    if not chart:
        return None
    return el("figure", el("h3", title), chart, el("figcaption", note) if note else None)


def grid(*parts: Markup | None) -> Markup | None:
    """Parts beside each other where there is room."""
    inside = join(parts)
    return el("div", inside, class_="grid") if inside else None


def commands(lines: Sequence[str], label: str = "Commands") -> Markup | None:
    """Lines for a shell; None without any."""
    shown = (el("code", line) for line in lines)
    return el("pre", *shown, tabindex="0", role="region", aria_label=label) if lines else None


def interval(share: float | None, count: int | None) -> str:
    """The 95 % Wilson interval, as ``90–98 %``; with a decimal where that says more."""
    if share is None or not count:
        return DASH
    low, high = wilson(share, count)
    digits = 1 if high - low < 0.05 else 0
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}{SPACE}%"


def some(names: Sequence[str], most: int) -> str:
    """Names in a row, at most ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def facts(values: object, label: str = "Facts") -> Markup | None:
    """Nested JSON values as a table of two columns, without the empty ones."""
    rows = list(_flat(values)) if isinstance(values, Mapping) else []
    return table((), rows, label=label, class_="facts") if rows else None


def _flat(values: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            inner = "; ".join(f"{inner} {text}" for inner, text in _flat(value))
            found += [(name, inner)] if inner else []
        elif isinstance(value, list | tuple):
            said = [str(each) for each in value if each is not None]
            found += [(name, ", ".join(said))] if said else []
        elif isinstance(value, bool):
            found.append((name, "yes" if value else "no"))
        elif isinstance(value, float) and isfinite(value):
            found.append((name, f"{value:.4g}"))
        elif isinstance(value, int) and "images" in name:
            found.append((name, plain(value)))
        elif value is not None and value != "" and not isinstance(value, float):
            found.append((name, str(value)))
    return found
