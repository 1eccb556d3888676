"""What a report says first: the result in one sentence, and the numbers that a person asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdedge.runtime.markup import (
    SPACE,
    Markup,
    el,
    file_size,
    join,
    milliseconds,
    number,
    percent,
    plain,
    span_of_time,
    times,
)
from kdedge.runtime.report.accuracy import TEACHER, Group
from kdedge.runtime.report.layout import Summary, interval
from kdedge.runtime.report.look import Look
from kdedge.runtime.run_reader import RunRecord

__all__ = ["FEWEST_STEPS", "Claim", "claim", "context", "headline", "key_figures", "reserve", "words"]

KINDS = {
    "distill": ("student", ""),
    "teacher": ("teacher", ""),
    "scratch": ("network", " trained from scratch"),
    "transfer": ("network", " with a borrowed trunk"),
    "label-kd": ("student", ""),
    "oneshot": ("one-shot network", ""),
    "maml": ("few-shot network", ""),
}
"""What a run makes, and what is said of it besides."""
FEWEST_STEPS = 30
"""Below that a student is hardly more than the weights it began with."""
FAMILIAR = {"torchvision/resnet50": "ResNet-50"}


@dataclass(frozen=True)
class Claim:
    """The accuracy that the page is about.

    Attributes:
        share: 0-1; None if none is known.
        images: how many it was measured on; None if that was not recorded.
        where: on which images, in words.
        of: what was measured: ``int8``, ``fp32``, or ``as trained`` for the network before export.
        teacher: what its teacher has on the same images; None if that is not known.
    """

    share: float | None = None
    images: int | None = None
    where: str = ""
    of: str = ""
    teacher: float | None = None


def claim(found: Sequence[Group], look: Look | None) -> Claim:
    """The figure of the first group that the page is about, and what it is."""
    if not found:
        return Claim()
    group = found[0]
    row = next((row for row in group.rows if row.strong), group.rows[-1])
    teacher = next((row.share for row in group.rows if row.name == TEACHER), None)
    if row.name.endswith(("int8", "fp16")):
        of = row.name[-4:]
    else:
        of = "as trained" if "as trained" in row.name else "fp32"
    kind = {"Test": "test images", "Validation": "validation images", "Training": "training images"}
    name = kind.get(group.title.split()[0].rstrip(","), f"images of {Path(look.found.name).name}" if look else "images")
    if look and look.trained:
        name = "images, some of which it was trained on"
    elif name == "test images":
        name = "unseen images" if group.images else "test images"
    where = f"on {plain(group.images)} {name}" if group.images else f"on its {name}"
    return Claim(row.share, group.images, where, of, None if row.name == TEACHER else teacher)


def headline(summary: Summary, classes: int, said: Claim, kind: str = "distill", finished: bool = True) -> str:
    """The result in one sentence.

    Args:
        classes: how many there are; 0 for a network without a head.
        kind: of the run.
    """
    what, besides = KINDS.get(kind, ("network", ""))
    if not finished:
        return f"The training of this {what} is not finished."
    sizes = {precision: number(summary, f"{precision}_bytes") for precision in ("int8", "fp16", "fp32")}
    precision = next(
        (name for name, count in sizes.items() if count is not None), "" if said.of == "as trained" else said.of
    )
    if not precision and number(summary, "speedup") is not None:
        precision = "int8"  # whose ratios those are
    size = sizes.get(precision)
    text = f"{'An' if precision or what[0] in 'aeiou' else 'A'} {precision} {what}".replace("  ", " ")
    text += (f" of {file_size(size)}" if size is not None else "") + besides
    noun = words(summary, "noun") or ("class" if classes == 1 else "classes")
    if said.share is not None:
        digits = 1 if (said.images or 0) >= 1000 else 0
        text += f" recognises {classes} {noun} with {percent(said.share, digits)} accuracy {said.where}"
        if size is not None and said.of == "as trained":
            text += " (measured before export)"
        elif size is not None and said.of != precision:
            text += f" (measured as {said.of})"
    ratios = _ratios(summary, said.share is not None)
    if said.share is None and not ratios:
        text += f" for {classes} {noun}" if classes else " that imitates its teacher and knows no classes yet"
    return f"{text}{ratios}."


def _ratios(summary: Summary, accuracy: bool) -> str:
    ratios = (("speedup", "faster", "slower"), ("size_ratio", "smaller", "larger"))
    found = [(number(summary, key), more, less) for key, more, less in ratios]
    said = [f"{times(max(r, 1 / r))} {more if r >= 1 else less}" for r, more, less in found if r is not None and r > 0]
    return (", " if accuracy else " is ") + " and ".join(said) + f" than {reference(summary)} in fp32" if said else ""


def reference(summary: Summary) -> str:
    """What the ratios are to: ResNet-50, or what the bench had in its place."""
    name = words(summary, "reference") or "ResNet-50"
    return FAMILIAR.get(name, name)


def context(summary: Summary, said: Claim, run: RunRecord | None) -> Markup | None:
    """What the figure has to be seen beside."""
    teacher, scratch = said.teacher, number(summary, "scratch_accuracy")
    told = [f"Its teacher reaches {percent(teacher)} on the same images"] if teacher is not None else []
    if scratch is not None:
        told.append(f"{'the' if told else 'The'} same network trained without the teacher {percent(scratch)}")
    text = ", ".join(told) + "." if told else ""
    if said.share is not None and run is not None and run.exports and said.of == "as trained":
        text += " The exported files were not evaluated: what is said of accuracy is of the network before export."
    return el("p", text.strip()) if text else None


def reserve(run: RunRecord | None) -> Markup | None:
    """That a student hardly trained, which no figure on the page tells; None if it did or nothing is recorded."""
    if run is None or run.kind != "distill" or run.best_card is None:
        return None
    steps = run.best_card.provenance.get("steps")
    if not isinstance(steps, int) or steps >= FEWEST_STEPS:
        return None
    text = (
        f"It was trained for {steps} step{'' if steps == 1 else 's'} only, so it is hardly more than the weights it began "
        "with: these are not the numbers of a student that has learned. Train it longer."
    )
    return el("p", text, class_="verdict reserve")


def key_figures(summary: Summary, said: Claim) -> Markup | None:
    """A row of the numbers a person asks for first."""
    found: list[tuple[str, str, str]] = []
    if said.share is not None:
        note = f"95{SPACE}% interval {interval(said.share, said.images)}" if said.images else said.where
        found.append((f"Accuracy, {said.of}", percent(said.share), note))
        if said.teacher is not None:
            points = f"{100 * (said.share - said.teacher):+.1f}".replace("-", "\u2212")
            found.append(("Beside its teacher", points, f"percentage points; teacher {percent(said.teacher)}"))
    size, fp32 = number(summary, "int8_bytes"), number(summary, "fp32_bytes")
    if size is not None:
        found.append(("File, int8", file_size(size), f"fp32: {file_size(fp32)}" if fp32 is not None else ""))
    elif fp32 is not None:
        found.append(("File, fp32", file_size(fp32), "no int8 file yet"))
    p50 = number(summary, "p50_ms", "student_int8")
    if p50 is not None:
        found.append(("Latency, int8", milliseconds(p50), "median, one image"))
    elif (whole := number(summary, "p50_ms", "student_fp32")) is not None:
        found.append(("Latency, fp32", milliseconds(whole), "median, one image"))
    speedup, ratio = number(summary, "speedup"), number(summary, "size_ratio")
    theirs = number(summary, "p50_ms", "resnet50_int8"), number(summary, "resnet50_int8_bytes")
    name = reference(summary)
    if speedup is not None and speedup > 0:
        found.append(
            (
                "Faster by" if speedup >= 1 else "Slower by",
                times(max(speedup, 1 / speedup)),
                _beside(name, theirs[0], p50),
            )
        )
    if ratio is not None and ratio > 0:
        found.append(
            ("Smaller by" if ratio >= 1 else "Larger by", times(max(ratio, 1 / ratio)), _beside(name, theirs[1], size))
        )
    r2 = number(summary, "heldout_r2")
    if r2 is not None:
        found.append(("Held-out R²", plain(r2, 2), "of the teacher's activations"))
    total = number(summary, "seconds", "total")
    if total is not None:
        found.append(("Made in", span_of_time(total), "all steps"))
    cells = (
        el("div", el("dt", name), el("dd", value, class_="value"), el("dd", note, class_="note") if note else None)
        for name, value, note in found
    )
    return el("dl", join(cells), class_="figures") if found else None


def _beside(name: str, int8: float | None, ours: float | None) -> str:
    """What the ratio is to, and, since int8 alone gains something, how far the other network in int8 gets."""
    note = f"than {name} fp32"
    return f"{note}; against its int8: {times(int8 / ours)}" if int8 and ours and min(int8, ours) > 0 else note


def words(summary: Summary, key: str) -> str:
    """The text under ``key``; empty if there is none."""
    found = summary.get(key)
    return found if isinstance(found, str) else ""
