"""How often a network is right, and on which images: figures of different images never share a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from kdedge.runtime.charts import Bar, bars
from kdedge.runtime.interval import Z95, wilson
from kdedge.runtime.markup import DASH, SPACE, Markup, el, number, percent, plain, table
from kdedge.runtime.report.layout import Summary, figure, grid, headed, interval, section
from kdedge.runtime.report.look import Look
from kdedge.runtime.run_reader import RunRecord

__all__ = ["Group", "Measured", "accuracy", "groups", "paired_difference"]

TEACHER = "Teacher, with a linear probe"
LUCK = f"Whiskers: 95{SPACE}% Wilson intervals, which cover the luck of the draw of images, not that of training."
CHOSEN = "These images took part in choosing the weights, so the figure flatters; test images do not."


@dataclass(frozen=True)
class Measured:
    """A share of right answers, 0-1."""

    name: str
    share: float
    strong: bool = False


@dataclass(frozen=True)
class Group:
    """Figures that were measured on the same images.

    Attributes:
        title: which images.
        images: how many; None where that was not recorded.
        note: what one has to know about them.
        drawn: whether they are worth a chart.
    """

    title: str
    rows: tuple[Measured, ...]
    images: int | None
    note: str
    drawn: bool = True


def groups(summary: Summary, run: RunRecord | None, look: Look | None, tested: int | None) -> list[Group]:
    """Everything that was measured, the images it is about first.

    Args:
        tested: test images of the recorded figures; None if nobody knows.
    """
    test = _recorded_test(summary, run, tested)
    found = [_looked(look, test)] if look else []
    if test.rows and not (look and look.whole and look.found.of == test.images):
        found.append(test)
    found += [_harder(summary), *(_others(run) if run and not _has(summary) else ())]
    return [group for group in found if group.rows]


def _share(values: Mapping[str, object], key: str) -> float | None:
    found = number(values, key)
    return found if found is not None and 0.0 <= found <= 1.0 else None


def _rows(values: Mapping[str, object], names: Sequence[tuple[str, str]], strong: str = "") -> tuple[Measured, ...]:
    shares = ((name, key, _share(values, key)) for name, key in names)
    return tuple(Measured(name, share, key == strong) for name, key, share in shares if share is not None)


def _has(summary: Summary) -> bool:
    return any(_share(summary, key) is not None for key in ("student_int8_accuracy", "student_fp32_accuracy"))


def _recorded_test(summary: Summary, run: RunRecord | None, tested: int | None) -> Group:
    title = "Test images"
    if _has(summary) or run is None:
        known = (
            (TEACHER, "teacher_accuracy"),
            ("Student, fp32", "student_fp32_accuracy"),
            ("Student, int8", "student_int8_accuracy"),
            ("Same network from scratch", "scratch_accuracy"),
        )
        return Group(title, _rows(summary, known, "student_int8_accuracy"), tested, "")
    names = (
        (TEACHER, "teacher_test_accuracy"),
        (f"{_who(run)} as trained, fp32", "test_accuracy"),
        (f"{_who(run)}, int8", "int8_test_accuracy"),
    )
    strong = "int8_test_accuracy" if "int8_test_accuracy" in run.scores else "test_accuracy"
    return Group(title, _rows(run.scores, names, strong), tested, "As the training recorded it.")


def _who(run: RunRecord | None) -> str:
    return "Student" if run is None or run.kind == "distill" else "Teacher" if run.kind == "teacher" else "Network"


def _looked(look: Look, recorded: Group) -> Group:
    """What the files said for this report; beside it what was recorded of the teacher, if of the same images."""
    n, who = (
        len(look.paths),
        next((row.name.split()[0] for row in recorded.rows if "as trained" in row.name), "Student"),
    )
    rows = tuple(
        Measured(f"{who}, {precision}", answers.scores.accuracy, answers is look.best)
        for precision, answers in reversed(list(look.answers.items()))
    )
    note = f"The files, on {'all ' if n == look.found.of else ''}{plain(n)}"
    note += f" of {plain(look.found.of)} images" if n != look.found.of else " images"
    note += f" of {look.found.name}, for this report."
    if look.whole and look.found.of == recorded.images:
        others = tuple(row for row in recorded.rows if row.name.startswith((TEACHER, "Same network")))
        trained = next((row for row in recorded.rows if "as trained" in row.name), None)
        note += " The teacher's figure is the one that the training recorded." if others else ""
        note += f" It recorded {percent(trained.share, 2)} for the network as trained." if trained else ""
        return Group("Test images", (*others[:1], *rows, *others[1:]), n, note)
    titles = {"test": "Test images", "validation": "Validation images", "training": "Training images"}
    title = titles.get(look.found.role, "The images given")
    if look.found.role == "test":
        title += ", a part" if n < look.found.of else ", looked at now"
    note += f" {CHOSEN}" if look.found.role == "validation" else ""
    if look.trained:
        note += f" The network was trained on {plain(look.trained)} of them, so this says little about new images."
    if look.heldout and look.found.role != "validation":
        note += (
            f" {plain(look.heldout)} of them were held out in training, where they took part in choosing the weights."
        )
    return Group(title, rows, n, note)


def _harder(summary: Summary) -> Group:
    images = number(summary, "images", "shift")
    rows = _rows(summary, ((TEACHER, "teacher_shift_accuracy"), ("Student", "shift_accuracy")), "shift_accuracy")
    return Group(
        "Harder split", rows, int(images) if images and images >= 1 else None, "Test images unlike those trained on."
    )


def _others(run: RunRecord) -> list[Group]:
    """Validation, cross-validation and training images, as recorded."""
    who, known = f"{_who(run)} as trained, fp32", sum(label >= 0 for label in run.heldout_labels)
    val = _rows(run.scores, ((TEACHER, "teacher_val_accuracy"), (who, "val_accuracy")), "val_accuracy")
    cross = _rows(run.scores, ((TEACHER, "teacher_cv_accuracy"), (who, "cv_accuracy")))
    own = _rows(
        run.scores,
        ((f"{who}, after adaptation", "test_task_accuracy"), (f"{who}, before", "test_task_accuracy_before")),
    )
    triplets = _rows(run.scores, ((f"{who}, triplets", "test_triplet_accuracy"),))
    return [
        Group(
            "Validation images",
            val,
            known or None,
            f"As the training recorded it. {CHOSEN}",
            "test_accuracy" not in run.scores,
        ),
        Group("Few-shot tasks of the test images", own, None, "As the training recorded it."),
        Group("Triplets of test images", triplets, None, "Share with the positive nearer than the negative."),
        Group(
            "Cross-validation, labelled images",
            cross,
            None,
            "Of the last layer alone; the rest has seen them.",
            drawn=False,
        ),
        Group(
            "Training images", _rows(run.scores, ((who, "train_accuracy"),)), None, "At most 5000 of them.", drawn=False
        ),
    ]


def accuracy(found: Sequence[Group], look: Look | None, common: float | None) -> Markup | None:
    """Charts and a table of the groups.

    Args:
        common: accuracy of always answering the most frequent class, on the images of the first group.
    """
    charts = []
    for place, group in enumerate(found):
        if not group.drawn:
            continue
        note = _with_luck(group)
        if place == 0 and common is not None:
            note += f" Always answering the most frequent class would score {percent(common)}."
        charts.append(figure(group.title, _chart(group), note))
    cells = [
        (
            row.name,
            group.title,
            percent(row.share),
            interval(row.share, group.images),
            plain(group.images) if group.images else DASH,
        )
        for group in found
        for row in group.rows
    ]
    head = ("network", "images", "accuracy", f"95{SPACE}% interval", "n")
    made = headed("The same in numbers", table(head, cells, label="Accuracies", class_="pairs")) if cells else None
    return section("Accuracy", grid(*charts), _pair(look), made)


def _with_luck(group: Group) -> str:
    n = (
        f"n = {plain(group.images)}. {LUCK}"
        if group.images
        else "How many images was not recorded, so there is no interval."
    )
    return f"{group.note} {n}".strip()


def _chart(group: Group) -> Markup:
    n = group.images
    rows = [Bar(r.name, r.share, percent(r.share), wilson(r.share, n) if n else None, r.strong) for r in group.rows]
    return bars(f"Accuracy, {group.title}", rows, top=1.0)


def _pair(look: Look | None) -> Markup | None:
    """What quantisation changed, image by image."""
    if look is None or "int8" not in look.answers or "fp32" not in look.answers:
        return None
    small, whole = (look.answers[precision].guesses for precision in ("int8", "fp32"))
    right, was = small == look.labels, whole == look.labels
    gained, lost, other = int((right & ~was).sum()), int((was & ~right).sum()), int((small != whole).sum())
    difference, half = paired_difference(gained, lost, len(small))
    text = f"int8 and fp32 answer differently on {plain(other)} of {plain(len(small))} images"
    if other:
        text += f": int8 alone is right on {plain(gained)}, fp32 alone on {plain(lost)}, "
        text += f"neither on {plain(other - gained - lost)}"
    points = f"{100 * difference:+.2f} ± {100 * half:.2f}".replace("-", "\u2212")
    return el("p", f"{text}. int8 against fp32: {points} points (95{SPACE}% interval of paired answers).")


def paired_difference(gained: int, lost: int, images: int) -> tuple[float, float]:
    """Difference of two shares on the same images, and half its 95 % interval (Agresti and Min, Stat. Med. 24, 2005, p. 729).

    Args:
        gained: images that only the one is right on; ``lost``: only the other.
        images: all images, at least 1.

    Returns:
        The difference itself, (gained - lost) / images, and the half width of the adjusted Wald interval, 0-1.
    """
    up, down, n = gained + 0.5, lost + 0.5, images + 2.0
    half = Z95 * sqrt(up + down - (up - down) ** 2 / n) / n
    return (gained - lost) / images, half
