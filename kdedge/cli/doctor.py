"""``kdedge doctor``: what works on this machine, what does not, and what to do."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdedge.runtime.doctor.check import Check

__all__ = ["doctor"]

WORDS = {"ok": "ok", "info": "note", "warn": "warning", "problem": "PROBLEM"}
COLORS = {"ok": "32", "info": "36", "warn": "33", "problem": "1;31"}
COLUMN = 9
"""Letters of the first column."""

NARROW, WIDE = 60, 120
"""Columns a terminal is taken to have, at least and at most."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Try this model: an .onnx file, a run directory or one of the zoo."),
    ] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Take frames of this camera, 0 for the first.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Import, load and run things (in processes of their own).")
    ] = True,
) -> None:
    """Check Python, wheels, execution providers, processor, memory, cameras and a model on this machine.

    A provider counts as loaded when it has run a network and the answer was right, not when onnxruntime lists it. Warnings
    cost speed or some use; problems are in the way, and make the exit code 1. Nothing is changed, and no network is needed.

    \b
    Examples:
      kdedge doctor
      kdedge doctor --camera 0 --model runs/first
      kdedge doctor --json > machine.json
      kdedge doctor --no-probe
    """
    from kdedge.runtime.doctor.run import examine

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    checks = []
    for check in examine(model=model, camera=None if camera is None else str(camera), probe=probe, say=say):
        checks.append(check)
        if not as_json:
            for line in _lines(check):
                print(line, flush=True)
    problems = sum(check.status == "problem" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    if as_json:
        import json

        from kdedge import __version__

        answer = {
            "kdedge": __version__,
            "problems": problems,
            "warnings": warnings,
            "checks": [check.to_dict() for check in checks],
        }
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        print(f"\n{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    if problems:
        raise typer.Exit(1)


def _lines(check: "Check") -> list[str]:
    """Status, name and finding in columns; the advice below, behind an arrow."""
    from shutil import get_terminal_size
    from textwrap import wrap

    from kdedge.runtime.doctor.run import WIDEST

    left = COLUMN + WIDEST + 1
    room = max(NARROW, min(WIDE, get_terminal_size().columns)) - left if sys.stdout.isatty() else 10_000
    found = wrap(_printable(check.found), room, break_long_words=False, break_on_hyphens=False) or [""]
    head = f"{_painted(check.status)}{_printable(check.name):<{WIDEST}} "
    lines = [head + found[0], *(" " * left + line for line in found[1:])]
    advice = wrap(_printable(check.advice), room - 3, break_long_words=False, break_on_hyphens=False)
    return [*lines, *(" " * left + ("-> " if number == 0 else "   ") + line for number, line in enumerate(advice))]


def _painted(status: str) -> str:
    import os

    word = WORDS[status]
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return f"{word:<{COLUMN}}"
    return f"\033[{COLORS[status]}m{word}\033[0m{'':<{COLUMN - len(word)}}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' * (number != 1)}"


def _printable(text: str) -> str:
    """Without control characters: it comes from libraries and devices and goes to a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
