"""``report.html``: what a person looks at after a run. One file, no script, nothing fetched from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.files import write_text
from kdedge.runtime import report_parts as parts
from kdedge.runtime.evaluate import Scores
from kdedge.runtime.markup import Markup, el, file_size, join, number, percent, times
from kdedge.runtime.report_classes import Mistake, classes, gallery, mistakes

__all__ = ["Mistake", "ReportData", "render_report", "write_report"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Keeps a browser from loading anything, whatever the page may hold."""


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; an absent value leaves its part out.

    Attributes:
        title: of the page, the run's name for example.
        summary: JSON values by name. Accuracies and shares are 0-1, ``*_bytes`` sizes of ONNX files; ``speedup`` and
            ``size_ratio`` are those of the int8 student to ResNet-50 in fp32. ``noun`` says what the classes are
            (``people``), ``images.shift`` how many images the harder split has.
        scores: of the int8 student on the test images.
        history: records of ``metrics.jsonl``.
        mistakes: test images that the int8 student got wrong.
        gallery: name of a set to example images, uint8 (H, W, 3), RGB.
        commands: lines that repeat the run.
    """

    title: str
    summary: Mapping[str, Any]
    scores: Scores
    history: Sequence[Mapping[str, Any]] = ()
    mistakes: Sequence[Mistake] = ()
    gallery: Mapping[str, Sequence[NDArray[np.uint8]]] = field(default_factory=dict)
    commands: Sequence[str] = ()


def render_report(data: ReportData) -> str:
    """The page, as HTML."""
    counts = data.scores.confusion
    tested = int(counts.sum())
    summary: dict[str, Any] = dict(data.summary)
    if number(summary, "student_int8_accuracy") is None and isfinite(data.scores.accuracy):
        summary["student_int8_accuracy"] = data.scores.accuracy
    common = float(counts.sum(1).max() / tested) if tested else None
    student, teacher = _words(summary, "student"), _words(summary, "teacher")
    by_line = [data.title, student, f"taught by {teacher}" if teacher else ""]
    verdict = _words(summary, "verdict")
    body = join(
        (
            el(
                "header",
                el("p", " · ".join(text for text in by_line if text), class_="kicker"),
                el("h1", headline(summary, len(data.scores.classes), tested)),
                _context(summary),
                el("p", verdict, class_="verdict") if verdict else None,
                parts.key_figures(summary, tested),
            ),
            parts.accuracy(summary, tested, common),
            parts.training(data.history, summary),
            parts.speed(summary),
            classes(data.scores),
            mistakes(data.mistakes, data.scores),
            gallery(data.gallery, summary),
            parts.export(summary),
            parts.provenance(summary, data.commands),
            parts.limits(summary.get("limits")),
        )
    )
    style = files("kdedge.runtime").joinpath("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", data.title),
        el("style", Markup(style)),
    )
    return f"<!doctype html>\n{el('html', head, el('body', el('main', body)), lang='en')}\n"


def write_report(path: str | Path, data: ReportData) -> None:
    """Write :func:`render_report` to ``path``, atomically."""
    write_text(path, render_report(data))


def headline(summary: Mapping[str, Any], classes: int, tested: int) -> str:
    """The result in one sentence."""
    size, accuracy = number(summary, "int8_bytes"), number(summary, "student_int8_accuracy")
    text = "An int8 student" + (f" of {file_size(size)}" if size is not None else "")
    if accuracy is not None:
        noun = _words(summary, "noun") or "classes"
        text += f" recognises {classes} {noun} with {percent(accuracy, 0)} accuracy on {tested} unseen images"
    ratios = (("speedup", "faster", "slower"), ("size_ratio", "smaller", "larger"))
    found = [(number(summary, key), more, less) for key, more, less in ratios]
    said = [f"{times(max(r, 1 / r))} {more if r >= 1 else less}" for r, more, less in found if r is not None and r > 0]
    if said:
        text += (", " if accuracy is not None else " is ") + " and ".join(said) + " than ResNet-50 in fp32"
    return text + "."


def _context(summary: Mapping[str, Any]) -> Markup | None:
    teacher, scratch = number(summary, "teacher_accuracy"), number(summary, "scratch_accuracy")
    said = [f"Its teacher reaches {percent(teacher)} on the same images"] if teacher is not None else []
    if scratch is not None:
        said.append(f"{'the' if said else 'The'} same network trained without the teacher {percent(scratch)}")
    return el("p", ", ".join(said) + ".") if said else None


def _words(summary: Mapping[str, Any], key: str) -> str:
    found = summary.get(key)
    return found if isinstance(found, str) else ""
