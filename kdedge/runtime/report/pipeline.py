"""The way from teacher to device, step by step, with what was counted at each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdedge.card import ModelCard
from kdedge.runtime.markup import Markup, el, file_size, join, mapping, milliseconds, number, percent, plain, times
from kdedge.runtime.report.head import Claim
from kdedge.runtime.report.layout import Summary, section
from kdedge.runtime.run_reader import RunRecord

__all__ = ["Step", "pipeline", "steps"]

STARTS = {
    "scratch": "trained from scratch",
    "transfer": "its trunk frozen, a new head",
    "label-kd": "on labels and a teacher's probabilities",
    "oneshot": "with triplets, then class means",
    "maml": "to adapt in a few steps, then class means",
    "teacher": "trained on the labels",
}


@dataclass(frozen=True)
class Step:
    """One box: what it is, its name or number, and lines about it."""

    title: str
    what: str
    lines: tuple[str, ...] = ()


def pipeline(run: RunRecord | None, summary: Summary, said: Claim) -> Markup | None:
    """The steps in their order; None without a run."""
    found = steps(run, summary, said) if run else []
    boxes = (
        el(
            "li",
            el("span", each.title, class_="step"),
            el("b", *_breakable(each.what)),
            *(el("span", line, class_="note") for line in each.lines),
        )
        for each in found
    )
    return section("From teacher to device", el("ol", join(boxes), class_="flow")) if found else None


def steps(run: RunRecord, summary: Summary, said: Claim) -> list[Step]:
    """What was done, with the numbers that were recorded."""
    card, made = run.best_card, dict(run.best_card.provenance) if run.best_card else {}
    first = _distilled(run, card, made, summary, said) if run.kind == "distill" else _fitted(run, card, made)
    return [*first, _quantised(run), _device(run, summary)]


def _breakable(name: str) -> list[object]:
    """A name that may be broken after a slash or an underscore."""
    return [
        part if part not in "/_" else join((el("span", part), el("wbr"))) for part in re.split("([/_])", name) if part
    ]


def _lines(*found: str | None) -> tuple[str, ...]:
    return tuple(line for line in found if line)


def _counted(values: Mapping[str, Any], key: str, text: str, *where: str) -> str | None:
    count = number(values, *where, key)
    return text.format(plain(count)) if count else None


def _weights(card: ModelCard | None) -> str | None:
    if not card or not card.parameters:
        return None
    return (
        f"{card.parameters / 1e6:.3g} million weights"
        if card.parameters >= 1e5
        else f"{plain(card.parameters)} weights"
    )


def _distilled(
    run: RunRecord, card: ModelCard | None, made: Mapping[str, Any], summary: Summary, said: Claim
) -> list[Step]:
    teacher = card.teacher if card else str(run.settings.get("teacher", ""))
    labelled, classes = number(made, "labelled_images"), len(card.labels) if card else 0
    r2, unfrozen = number(run.scores, "heldout_r2"), run.settings.get("head") == "unfrozen"
    teaches = f"{percent(said.teacher)} with a linear probe, {said.where}" if said.teacher is not None else None
    transfer = number(made, "transfer_images")
    found = [
        Step("Teacher", teacher or "unknown", _lines("its activations are the targets", teaches)),
        Step(
            "Images to imitate on",
            f"{plain(transfer)} unlabelled" if transfer else "the labelled images",
            _lines(
                _counted(summary, "views", "{} views trained on", "images"),
                _counted(made, "heldout_images", "{} images held out"),
            ),
        ),
        Step(
            "Student",
            card.student if card else str(run.settings.get("student", "")),
            _lines(
                _weights(card),
                _counted(made, "steps", "{} steps"),
                f"held-out R² {r2:.2f}" if r2 is not None else None,
            ),
        ),
    ]
    if classes:
        how = "then the whole network fine-tuned" if unfrozen else "the last layer alone is fitted"
        found.append(
            Step(
                "Head",
                f"{classes} class{'es' * (classes != 1)}",
                _lines(f"{plain(labelled)} labelled images" if labelled else None, how),
            )
        )
    return found


def _fitted(run: RunRecord, card: ModelCard | None, made: Mapping[str, Any]) -> list[Step]:
    count, classes = number(made, "labelled_images"), len(card.labels) if card else 0
    val = sum(label >= 0 for label in run.heldout_labels) or len(run.heldout)
    images = Step(
        "Labelled images",
        plain(count) if count else "not counted yet",
        _lines(
            f"{classes} class{'es' * (classes != 1)}" if classes else None,
            f"{plain(val)} more for validation" if val else None,
        ),
    )
    weights = made.get("student_weights")
    network = Step(
        "Teacher" if run.kind == "teacher" else "Network",
        card.student if card else str(run.settings.get("network", "")),
        _lines(
            STARTS.get(run.kind),
            f"from {'random weights' if weights == 'random' else weights}"
            if isinstance(weights, str) and weights
            else None,
            _weights(card),
            _counted(made, "steps", "{} steps"),
        ),
    )
    teacher = card.teacher if card else ""
    return [*([Step("Teacher", teacher, ("its class probabilities",))] if teacher else []), images, network]


def _quantised(run: RunRecord) -> Step:
    small, whole = run.export("int8"), run.export("fp32")
    if small is None:
        what = "not exported" if whole is None else "fp32 only"
        return Step("Export", what, _lines(file_size(whole.bytes) if whole else None, "no int8 file"))
    card = small.card
    total, int8 = number(card.fusion, "conv_total"), number(card.fusion, "conv_int8")
    share = number(card.quantization, "int8_conv_share")
    kernels = f"{plain(int8)} of {plain(total)} convolutions in int8" if total and int8 is not None else None
    if kernels is None and share is not None:
        kernels = f"{percent(share)} of the convolutions in int8"
    ratio = f", {times(whole.bytes / small.bytes)} smaller than fp32" if whole and whole.bytes > small.bytes else ""
    method = card.quantization.get("method")
    calibrated = _counted(card.quantization, "images", "calibrated on {} images" + (f" ({method})" if method else ""))
    return Step("int8", f"{file_size(small.bytes)}{ratio}", _lines(kernels, calibrated))


def _device(run: RunRecord, summary: Summary) -> Step:
    target = run.exports[0].card.target if run.exports else ""
    p50 = number(summary, "p50_ms", "student_int8")
    p50 = number(summary, "p50_ms", "student_fp32") if p50 is None else p50
    where = mapping(mapping(summary, "bench"), "conditions").get("cpu")
    what = f"{milliseconds(p50)} an image" if p50 is not None else "speed not measured"
    return Step(
        "Device",
        what,
        _lines(
            f"median, {where}" if p50 is not None and where else None, f"file made for {target}" if target else None
        ),
    )
