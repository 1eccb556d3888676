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
from kdedge.runtime.evaluate import Scores
from kdedge.runtime.markup import Markup, el, join, number
from kdedge.runtime.report.accuracy import accuracy, groups
from kdedge.runtime.report.classes import classes
from kdedge.runtime.report.head import claim, context, headline, key_figures, reserve, words
from kdedge.runtime.report.int8 import export
from kdedge.runtime.report.layout import navigation
from kdedge.runtime.report.look import Look
from kdedge.runtime.report.made import limits, not_measured, provenance
from kdedge.runtime.report.pictures import Change, Mistake, changes, gallery, mistakes
from kdedge.runtime.report.pipeline import pipeline
from kdedge.runtime.report.speed import speed
from kdedge.runtime.report.training import training
from kdedge.runtime.run_reader import RunRecord

__all__ = ["Change", "Mistake", "ReportData", "render_report", "write_report"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Keeps a browser from loading anything, whatever the page may hold."""


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; an absent value leaves its part out.

    Attributes:
        title: of the page, the run's name for example.
        summary: JSON values by name. Accuracies and shares are 0-1, ``*_bytes`` sizes of ONNX files; ``speedup`` and
            ``size_ratio`` are those of the int8 student to ResNet-50 in fp32 (or what ``reference`` names). ``noun`` says
            what the classes are (``people``), ``images.shift`` how many images the harder split has.
        scores: of the int8 student on the test images; None takes those of ``look``.
        history: records of ``metrics.jsonl``.
        mistakes: test images that the int8 student got wrong.
        gallery: name of a set to example images, uint8 (H, W, 3), RGB.
        commands: lines that repeat the run.
        run: what the run directory holds.
        look: what the exported files said about labelled images for this report.
        changes: images on which int8 and fp32 disagree.
        tested: test images of the figures that training recorded; None if nobody knows.
        missing: what was not measured, and the command that would.
    """

    title: str
    summary: Mapping[str, Any]
    scores: Scores | None = None
    history: Sequence[Mapping[str, Any]] = ()
    mistakes: Sequence[Mistake] = ()
    gallery: Mapping[str, Sequence[NDArray[np.uint8]]] = field(default_factory=dict)
    commands: Sequence[str] = ()
    run: RunRecord | None = None
    look: Look | None = None
    changes: Sequence[Change] = ()
    tested: int | None = None
    missing: Sequence[tuple[str, str]] = ()


def render_report(data: ReportData) -> str:
    """The page, as HTML."""
    run, look = data.run, data.look
    scores = data.scores or (look.best.scores if look else None)
    counted = int(scores.confusion.sum()) if scores else None
    summary: dict[str, Any] = dict(data.summary)
    if data.scores and number(summary, "student_int8_accuracy") is None and isfinite(data.scores.accuracy):
        summary["student_int8_accuracy"] = data.scores.accuracy
    common = float(scores.confusion.sum(1).max() / counted) if scores and counted else None
    found = groups(summary, run, look, data.tested if data.scores is None else counted)
    said = claim(found, look)
    noun = _noun(look)
    card = run.best_card if run else None
    names = len(scores.classes) if scores else len(card.labels) if card else 0
    wrong = int((look.answers["int8"].guesses != look.answers["fp32"].guesses).sum()) if data.changes and look else 0
    sections = (
        pipeline(run, summary, said),
        accuracy(found, look, common),
        training(data.history, summary),
        speed(summary),
        classes(scores, noun) if scores else None,
        mistakes(data.mistakes, scores, noun) if scores else None,
        changes(data.changes, wrong),
        gallery(data.gallery, summary),
        export(summary, run),
        provenance(summary, run, data.commands),
        not_measured(data.missing),
        limits(summary.get("limits")),
    )
    student, teacher, verdict = (words(summary, key) for key in ("student", "teacher", "verdict"))
    by_line = [data.title, student, f"taught by {teacher}" if teacher else ""]
    head = el(
        "header",
        el("p", " · ".join(text for text in by_line if text), class_="kicker"),
        el("h1", headline(summary, names, said, run.kind if run else "distill", run.finished if run else True)),
        reserve(run),
        context(summary, said, run),
        el("p", verdict, class_="verdict") if verdict else None,
        key_figures(summary, said),
        navigation(sections),
    )
    return _page(data.title, join((head, *sections)))


def _noun(look: Look | None) -> str:
    """The images that classes and mistakes are of."""
    if look is None:
        return "test images"
    kinds = {"test": "test images", "validation": "validation images", "training": "training images"}
    return kinds.get(look.found.role, f"images of {look.found.name}")


def _page(title: str, body: Markup) -> str:
    style = files("kdedge.runtime.report").joinpath("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(style)),
    )
    return f"<!doctype html>\n{el('html', head, el('body', el('main', body)), lang='en')}\n"


def write_report(path: str | Path, data: ReportData) -> None:
    """Write :func:`render_report` to ``path``, atomically."""
    write_text(path, render_report(data))
