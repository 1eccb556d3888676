"""``kdedge info``: what an exported file says about itself."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdedge.runtime.info import Section

__all__ = ["info"]

COLUMNS = 80
INDENT = 2
WIDEST_KEY = 24


def info(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the card as JSON, with what is known of the file as 'file'.")
    ] = False,
) -> None:
    """Labels, preprocessing, shapes, scores, calibration and origin of a model, from its file alone.

    Without FILE: $KDEDGE_MODEL, else the newest export under runs/, else the default model of the zoo.

    \b
    Examples:
      kdedge info
      kdedge info runs/first
      kdedge info student.int8.onnx --json > card.json
    """
    from kdedge.runtime.info import read_info, sections
    from kdedge.runtime.models import default_model

    path, why = default_model(file)
    found = read_info(path)
    if not file:
        print(f"model: {found.card.name} ({found.card.precision}), {why}: {path}", file=sys.stderr)
    if as_json:
        import json

        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        return
    for line in _layout(sections(found)):
        print(line)


def _layout(found: "Sequence[Section]") -> Iterator[str]:
    """Sections below each other, their keys in one column, nothing wider than 80 characters that can be broken."""
    from textwrap import wrap

    column = min(WIDEST_KEY, max(len(key) for section in found for key, _ in section.lines)) + INDENT + 2
    for number, section in enumerate(found):
        if number:
            yield ""
        yield section.title
        for key, text in section.lines:
            text, head = _printable(text), f"{'':{INDENT}}{_printable(key)}"
            broad = any(len(word) > COLUMNS - column for word in text.split())  # a hash or a path
            left = 2 * INDENT if broad else column
            if broad or len(head) > column - 2:
                yield head
                head = ""
            for line in wrap(text, COLUMNS - left, break_long_words=False, break_on_hyphens=False) or [""]:
                yield f"{head:<{left}}{line}"
                head = ""


def _printable(text: str) -> str:
    """Without control characters: the text comes from a file and goes to a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
