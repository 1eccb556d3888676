"""What a report says in figures: key numbers, accuracy, training, speed, export and how it was run.

Each function makes one part of the page, or None where its numbers are missing.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from kdedge.runtime.charts import Bar, Curve, bars, curves
from kdedge.runtime.interval import wilson
from kdedge.runtime.markup import (
    DASH,
    SPACE,
    Markup,
    el,
    file_size,
    join,
    mapping,
    milliseconds,
    number,
    percent,
    plain,
    span_of_time,
    table,
    times,
)
from kdedge.runtime.report_layout import facts, figure, grid, interval, section

__all__ = ["accuracy", "export", "key_figures", "limits", "provenance", "speed", "training"]

Summary = Mapping[str, Any]
LOWEST_R2 = -0.2
NETWORKS = {
    "student_int8": "Student, int8",
    "student_fp32": "Student, fp32",
    "resnet50_int8": "ResNet-50, int8",
    "resnet50_fp32": "ResNet-50, fp32",
}
PARITY = {
    "images": "images compared",
    "top1_agreement": "same first class",
    "cosine": "cosine of the logits",
    "kl": "KL divergence (nats)",
    "max_abs_error": "largest error of a logit",
    "relative_error": "the same, relative to the largest logit",
}


def _whole(values: Summary, *keys: str) -> int | None:
    found = number(values, *keys)
    return int(found) if found is not None and found >= 1 else None


def _share(values: Summary, key: str) -> float | None:
    found = number(values, key)
    return found if found is not None and 0.0 <= found <= 1.0 else None


def key_figures(summary: Summary, tested: int) -> Markup | None:
    """A row of the numbers a person asks for first."""
    found: list[tuple[str, str, str]] = []
    int8 = _share(summary, "student_int8_accuracy")
    if int8 is not None:
        found.append(("Test accuracy, int8", percent(int8), f"95{SPACE}% interval {interval(int8, tested)}"))
        teacher = _share(summary, "teacher_accuracy")
        if teacher is not None:
            points = f"{100 * (int8 - teacher):+.1f}".replace("-", "\u2212")
            found.append(("Beside its teacher", f"{points}", f"percentage points; teacher {percent(teacher)}"))
    size, fp32 = number(summary, "int8_bytes"), number(summary, "fp32_bytes")
    if size is not None:
        found.append(("File, int8", file_size(size), f"fp32: {file_size(fp32)}" if fp32 is not None else ""))
    p50 = number(summary, "p50_ms", "student_int8")
    if p50 is not None:
        found.append(("Latency, int8", milliseconds(p50), "median, one image"))
    speedup, ratio = number(summary, "speedup"), number(summary, "size_ratio")
    theirs = number(summary, "p50_ms", "resnet50_int8"), number(summary, "resnet50_int8_bytes")
    if speedup is not None and speedup > 0:
        name = "Faster by" if speedup >= 1 else "Slower by"
        found.append((name, times(max(speedup, 1 / speedup)), _beside(theirs[0], p50)))
    if ratio is not None and ratio > 0:
        name = "Smaller by" if ratio >= 1 else "Larger by"
        found.append((name, times(max(ratio, 1 / ratio)), _beside(theirs[1], size)))
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


def _beside(int8: float | None, ours: float | None) -> str:
    """What the ratio is to, and, since int8 alone gains something, how far ResNet-50 in int8 gets."""
    note = "than ResNet-50 fp32"
    return f"{note}; against its int8: {times(int8 / ours)}" if int8 and ours and min(int8, ours) > 0 else note


def accuracy(summary: Summary, tested: int, common: float | None) -> Markup | None:
    """Bars and a table of accuracies on the test images, and on the harder split.

    Args:
        tested: test images.
        common: accuracy of always answering the most frequent class.
    """
    rows = (
        ("Teacher, with a linear probe", "teacher_accuracy"),
        ("Student, fp32", "student_fp32_accuracy"),
        ("Student, int8", "student_int8_accuracy"),
        ("Same network from scratch", "scratch_accuracy"),
    )
    harder = (("Teacher, with a linear probe", "teacher_shift_accuracy"), ("Student", "shift_accuracy"))
    shifted = _whole(summary, "images", "shift")
    easy = _accuracy_chart(summary, rows, tested, "student_int8_accuracy")
    hard = _accuracy_chart(summary, harder, shifted, "shift_accuracy")
    known: list[tuple[str, float | None, int | None]] = [(name, _share(summary, key), tested) for name, key in rows]
    known += [(f"{name}, harder split", _share(summary, key), shifted) for name, key in harder]
    cells = [(name, percent(p), interval(p, n), n or DASH) for name, p, n in known if p is not None]
    if not cells:
        return None
    n_text = (
        f"n = {tested} test images. Whiskers: 95{SPACE}% Wilson intervals, which cover the luck of the draw of images"
    )
    note = f"{n_text}, not that of training; all bars share the same images."
    if common is not None:
        note += f" Always answering the most frequent class would score {percent(common)}."
    n_hard = f"n = {shifted} images." if shifted else "The number of images was not recorded, so there is no interval."
    return section(
        "Accuracy",
        grid(
            figure("Test images", easy, note),
            figure("Harder split", hard, f"Test images unlike those trained on. {n_hard}"),
        ),
        el("h3", "The same in numbers"),
        table(("network", "accuracy", f"95{SPACE}% interval", "n"), cells),
    )


def _accuracy_chart(summary: Summary, rows: Sequence[tuple[str, str]], count: int | None, strong: str) -> Markup | None:
    found = []
    for name, key in rows:
        share = _share(summary, key)
        if share is not None:
            found.append(Bar(name, share, percent(share), wilson(share, count) if count else None, key == strong))
    return bars("Accuracy", found, top=1.0) if found else None


def training(history: Sequence[Mapping[str, Any]], summary: Summary) -> Markup | None:
    """Curves of the loss and of the held-out scores, and where these ended."""
    axis = "epoch" if all(number(record, "epoch") is not None for record in history) else "step"
    names = {"r2": "R²", "cosine": "cosine", "knn": "k-NN"}
    loss = Curve("loss", _points(history, axis, "loss"))
    scores = [Curve(name, _points(history, axis, key)) for key, name in names.items()]
    scores = [curve for curve in scores if curve.points]
    low = any(y < LOWEST_R2 for curve in scores for _, y in curve.points)
    note = "R²: share of the variance of the teacher's activations that the student predicts; 0 is no better than their mean. "
    note += "Cosine: between the two activations. k-NN: agreement of nearest neighbours."
    note += f" Values below {LOWEST_R2} are drawn there.".replace("-", "\u2212") if low else ""
    cells = [
        (name, plain(number(summary, f"heldout_{key}")), plain(number(summary, f"test_{key}")))
        for key, name in names.items()
        if number(summary, f"heldout_{key}") is not None or number(summary, f"test_{key}") is not None
    ]
    return section(
        "Training",
        grid(
            figure("Loss", curves("Training loss", [loss], axis) if loss.points else None),
            figure(
                "Agreement with the teacher, held-out images",
                curves("Held-out agreement with the teacher", scores, axis, LOWEST_R2, 1.0) if scores else None,
                note,
            ),
        ),
        table(("agreement of the kept weights", "held-out images", "test images"), cells) if cells else None,
    )


def _points(history: Sequence[Mapping[str, Any]], axis: str, key: str) -> list[tuple[float, float]]:
    """(x, y) of the records that have the key; NaN where it is no finite number."""
    nan = float("nan")
    found = []
    for record in history:
        x, y = number(record, axis), number(record, key)
        if key in record and x is not None:
            found.append((x, nan if y is None else y))
    return found if any(isfinite(y) for _, y in found) else []


def speed(summary: Summary) -> Markup | None:
    """Latency and size beside ResNet-50, every measured row, and the conditions."""
    latencies, sizes = [], []
    for key, name in NETWORKS.items():
        p50, size = number(summary, "p50_ms", key), number(summary, f"{key.removeprefix('student_')}_bytes")
        strong = key == "student_int8"
        if p50 is not None:
            latencies.append(Bar(name, p50, milliseconds(p50), strong=strong))
        if size is not None:
            sizes.append(Bar(name, size, file_size(size), strong=strong))
    conditions = facts(mapping(summary, "bench").get("conditions"))
    return section(
        "Speed and size",
        grid(
            figure("Latency of one image", bars("Median latency", latencies) if latencies else None, "Median (p50)."),
            figure("File size", bars("File size", sizes) if sizes else None, "ONNX file, in powers of 1000 bytes."),
        ),
        join((el("h3", "All that was measured"), _bench_table(summary))) if _bench_table(summary) else None,
        join((el("h3", "Measured on"), conditions)) if conditions else None,
    )


def _bench_table(summary: Summary) -> Markup | None:
    rows = mapping(summary, "bench").get("rows") or []
    columns = {
        "file": [file_size(number(row, "bytes")) for row in rows],
        "weights": [plain(number(row, "parameters")) for row in rows],
        "p50": [milliseconds(number(row, "p50_ms")) for row in rows],
        "p90": [milliseconds(number(row, "p90_ms")) for row in rows],
        "p99": [milliseconds(number(row, "p99_ms")) for row in rows],
        "images/s": [plain(number(row, "images_per_s"), 1) for row in rows],
        "peak memory": [_megabytes(number(row, "peak_rss_mb")) for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) - {DASH}}
    names = [" ".join(str(row[key]) for key in ("model", "precision") if row.get(key)) for row in rows]
    return table(("network", *columns), zip(names, *columns.values(), strict=True)) if columns else None


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{value:.0f}{SPACE}MB"


def export(summary: Summary) -> Markup | None:
    """What the export changed: parity of each file with the form before it, and the share of int8 convolutions."""
    parity = mapping(summary, "parity")
    kinds = [
        kind for kind in ("fp32", "int8") if any(number(parity, kind, key) is not None for key in mapping(parity, kind))
    ]
    heads = {"fp32": "fp32 file against the network", "int8": "int8 file against the fp32 file"}
    keys = dict.fromkeys(key for kind in kinds for key in parity[kind] if number(parity, kind, key) is not None)
    cells = [
        (PARITY.get(key, key), *(_parity_cell(key, number(parity, kind, key)) for kind in kinds))
        for key in [*(k for k in PARITY if k in keys), *(k for k in keys if k not in PARITY)]
    ]
    share = _share(summary, "int8_conv_share")
    fused = f"{percent(share)} of the convolutions run in int8, counted in the graph that onnxruntime executes."
    return section(
        "Export: what was lost on the way",
        el("p", fused) if share is not None else None,
        table(("", *(heads[kind] for kind in kinds)), cells) if cells else None,
    )


def _parity_cell(key: str, value: float | None) -> str:
    return percent(value) if key == "top1_agreement" else plain(value, 4)


def provenance(summary: Summary, commands: Sequence[str]) -> Markup | None:
    """Seconds by step, images, versions, and the commands that repeat the run."""
    seconds = {
        name: value
        for name in mapping(summary, "seconds")
        if (value := number(summary, "seconds", name)) is not None and value >= 0
    }
    total = seconds.pop("total", None)
    steps = [Bar(name, value, span_of_time(value)) for name, value in seconds.items()]
    ingredients = facts({key: summary.get(key) for key in ("student", "teacher", "seed", "images", "versions")})
    return section(
        "How it was made",
        grid(
            figure(
                "Time by step",
                bars("Time by step", steps) if steps else None,
                f"In all {span_of_time(total)}." if total is not None else None,
            ),
            el("figure", el("h3", "Ingredients"), ingredients) if ingredients else None,
        ),
        join((el("h3", "Commands"), el("pre", el("code", "\n".join(commands)), tabindex="0"))) if commands else None,
    )


def limits(sentences: object) -> Markup | None:
    """What the numbers do not say."""
    found = [str(text) for text in sentences] if isinstance(sentences, list | tuple) else []
    return section("What these numbers do not say", el("ul", *(el("li", text) for text in found)) if found else None)
