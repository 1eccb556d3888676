"""How a run was made: ingredients, files and their hashes, times, commands; and what nobody has measured yet."""

from collections.abc import Sequence
from typing import Any

from kdedge.card import ModelCard
from kdedge.runtime.charts import Bar, bars
from kdedge.runtime.markup import Markup, el, file_size, join, mapping, number, span_of_time, table
from kdedge.runtime.report.layout import Summary, commands, facts, figure, grid, headed, section, some
from kdedge.runtime.run_reader import RunRecord

__all__ = ["limits", "not_measured", "provenance"]

MOST_LABELS = 40
HASHES = {
    "checkpoint_sha256": "of the weights as trained",
    "fp32_sha256": "of the fp32 file that int8 was made from",
    "data_sha256": "of the labels and images that were trained on",
}
ELSEWHERE = frozenset({"versions", "verdict", "variant", *HASHES})
"""Parts of a card's provenance that stand elsewhere on the page."""


def provenance(summary: Summary, run: RunRecord | None, lines: Sequence[str]) -> Markup | None:
    """Seconds by step, ingredients, files, hashes, licence, and the commands that repeat the run."""
    card = run.best_card if run else None
    ingredients = facts(_ingredients(summary, run, card), "Ingredients")
    return section(
        "How it was made",
        grid(
            _times(summary),
            el("figure", el("h3", "Ingredients"), ingredients) if ingredients else None,
        ),
        headed("Files", _files(run)) if run else None,
        headed("Licence and use", _use(card)) if card else None,
        headed("Commands", commands(lines)),
    )


def _times(summary: Summary) -> Markup | None:
    """Bars by step, those of a part (``distill.teacher``) below their whole."""
    seconds = {
        name: value
        for name in mapping(summary, "seconds")
        if (value := number(summary, "seconds", name)) is not None and value >= 0
    }
    total = seconds.pop("total", None)
    places = list(seconds)
    order = sorted(places, key=lambda name: (_place(places, name), "." in name, places.index(name)))
    steps = [Bar(name.replace(".", " · "), seconds[name], span_of_time(seconds[name])) for name in order]
    note = f"In all {span_of_time(total)}." if total is not None else None
    return figure("Time by step", bars("Time by step", steps) if steps else None, note)


def _place(names: Sequence[str], name: str) -> int:
    whole = name.partition(".")[0]
    return names.index(whole) if whole in names else names.index(name)


def _ingredients(summary: Summary, run: RunRecord | None, card: ModelCard | None) -> dict[str, Any]:
    if run is None or card is None:
        return {key: summary.get(key) for key in ("student", "teacher", "seed", "images", "versions")}
    made = {key: value for key, value in card.provenance.items() if key not in ELSEWHERE}
    pre = card.preprocess
    fit = "central square" if pre.resize == "crop" else "squashed"
    return {
        "classes": f"{len(card.labels)}: {some(card.labels, MOST_LABELS)}" if card.labels else "",
        "network": card.student,
        "teacher": card.teacher,
        "weights": f"{card.parameters:,}".replace(",", "\u202f") if card.parameters else "",
        "input": f"{pre.size} × {pre.size} px, {pre.color.upper()}, {fit}; mean {_few(pre.mean)}, std {_few(pre.std)}",
        "images": summary.get("images") if run.summary else None,
        **made,
        "versions": card.provenance.get("versions") or summary.get("versions"),
    }


def _few(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _files(run: RunRecord) -> Markup | None:
    rows: list[tuple[object, ...]] = [
        (each.path.name, each.card.precision, each.card.target, file_size(each.bytes), el("code", each.sha256))
        for each in run.exports
    ]
    made = (
        table(("file", "precision", "made for", "size", "SHA-256"), rows, label="Exported files", class_="files")
        if rows
        else None
    )
    known = run.best_card.provenance if run.best_card else {}
    hashes = [(words, el("code", known[key])) for key, words in HASHES.items() if known.get(key)]
    return join((made, table((), hashes, label="Hashes", class_="facts") if hashes else None)) or None


def _use(card: ModelCard) -> Markup | None:
    return facts({"licence": card.licence, "images it expects": card.expects, "notes": card.notes}, "Licence and use")


def limits(sentences: object) -> Markup | None:
    """What the numbers do not say."""
    found = [str(text) for text in sentences] if isinstance(sentences, list | tuple) else []
    return section("What these numbers do not say", el("ul", *(el("li", text) for text in found)) if found else None)


def not_measured(missing: Sequence[tuple[str, str]]) -> Markup | None:
    """What is not on the page, and the command that would put it there: (what, command)."""
    items = (el("li", what, ": ", el("code", command)) for what, command in missing)
    return section("Not measured yet", el("ul", *items)) if missing else None
