"""HTML that escapes unless told otherwise, and numbers as people read them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

__all__ = [
    "Markup",
    "el",
    "file_size",
    "join",
    "mapping",
    "milliseconds",
    "number",
    "percent",
    "plain",
    "span_of_time",
    "table",
    "times",
]

SPACE = "\u00a0"
DASH = "–"
VOID = frozenset({"br", "img", "meta", "wbr"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What HTML forbids; lone surrogates come from file names that are not UTF-8."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _text(value: object) -> str:
    return value if isinstance(value, Markup) else escape(_CONTROL.sub("\ufffd", str(value)))


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """One element. Children that are not :class:`Markup`, and all attributes, are escaped; None is left out.

    A trailing underscore of an attribute is dropped (``class_``), others become hyphens (``aria_label``).
    """
    names = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    start = "".join(f' {name}="{escape(_CONTROL.sub(chr(0xFFFD), str(value)))}"' for name, value in names)
    inside = "" if tag in VOID else "".join(_text(child) for child in children if child is not None) + f"</{tag}>"
    return Markup(f"<{tag}{start}>{inside}")


def join(parts: Iterable[Markup | None]) -> Markup:
    """The parts that are there, one after the other."""
    return Markup("".join(part for part in parts if part))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: object = None,
    label: str | None = None,
    class_: str | None = None,
) -> Markup:
    """A table that scrolls sideways where it must; the first cell of a row is its heading.

    Args:
        label: what the table holds, for those who cannot see it; the caption, or the headings, by default.
    """
    spoken = (
        label or (caption if isinstance(caption, str) else ", ".join(str(cell) for cell in head if cell)) or "table"
    )
    empty = el("td", class_="corner")  # a heading must not be empty
    cells = (el("th", cell, scope="col") if str(cell) else empty for cell in head)
    top = el("thead", el("tr", *cells)) if head else None
    body = (el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows)
    about = el("caption", caption) if caption else None
    inside = el("table", about, top, el("tbody", *body), class_=class_)
    return el("div", inside, class_="wide", tabindex="0", role="region", aria_label=spoken)


def number(values: Mapping[str, Any], *keys: str) -> float | None:
    """The finite number under ``values[key][key]...``, or None."""
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        return None
    return float(found)


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under ``values[key]``, empty if there is none."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def plain(value: float | None, digits: int = 3) -> str:
    """At most ``digits`` decimals; small numbers with an exponent."""
    if value is None:
        return DASH
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.1e}" if abs(value) < 10.0**-digits else f"{value:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0-1; never rounded to 0 % or 100 % from elsewhere."""
    if share is None:
        return DASH
    text = f"{100 * share:.{digits}f}"
    while float(text) in (0.0, 100.0) and share not in (0.0, 1.0) and digits < 4:
        digits += 1
        text = f"{100 * share:.{digits}f}"
    return f"{text.removesuffix('.0') if share in (0.0, 1.0) else text}{SPACE}%"


def file_size(count: float | None) -> str:
    """Bytes as kB or MB (powers of 1000)."""
    if count is None:
        return DASH
    if count < 1e6:
        return f"{count / 1e3:.0f}{SPACE}kB" if count >= 1e3 else f"{count:.0f}{SPACE}bytes"
    return f"{count / 1e6:.{1 if count < 1e8 else 0}f}{SPACE}MB"


def milliseconds(value: float | None) -> str:
    """A latency with three figures."""
    if value is None:
        return DASH
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}{SPACE}ms"


def times(ratio: float) -> str:
    """A ratio, as ``14×``."""
    return f"{ratio:.{0 if ratio >= 10 else 1}f}×"


def span_of_time(seconds: float) -> str:
    """Seconds, minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.{0 if seconds >= 9.95 else 1}f}{SPACE}s"
    big, small, names = (
        (*divmod(round(seconds), 60), "min s")
        if seconds < 3600
        else (
            *divmod(round(seconds / 60), 60),
            "h min",
        )
    )
    first, second = names.split()
    return f"{big}{SPACE}{first}" + (f"{SPACE}{small}{SPACE}{second}" if small else "")
