"""How a training went: its curves, and where they ended."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from kdedge.runtime.charts import Curve, curves
from kdedge.runtime.markup import Markup, number, plain, table
from kdedge.runtime.report.layout import Summary, figure, grid, section

__all__ = ["training"]

History = Sequence[Mapping[str, Any]]
LOWEST_R2 = -0.2
AGREEMENT = {"r2": "R²", "cosine": "cosine", "knn": "k-NN"}


def training(history: History, summary: Summary) -> Markup | None:
    """Curves of the loss, of the agreement with the teacher, and of the accuracy; and where the agreement ended."""
    axis = "epoch" if all(number(record, "epoch") is not None for record in history) else "step"
    loss = [
        Curve(name, found)
        for name, key in (("training", "loss"), ("validation", "val_loss"))
        if (found := _points(history, axis, key))
    ]
    if len(loss) == 1:
        loss = [Curve("loss", loss[0].points)]
    cells = [
        (name, plain(number(summary, f"heldout_{key}")), plain(number(summary, f"test_{key}")))
        for key, name in AGREEMENT.items()
        if number(summary, f"heldout_{key}") is not None or number(summary, f"test_{key}") is not None
    ]
    head = ("agreement of the kept weights", "held-out images", "test images")
    return section(
        "Training",
        grid(
            figure("Loss", curves("Loss", loss, axis)) if loss else None,
            _agreement(history, axis),
            _accuracy(history, axis),
        ),
        table(head, cells, label="Agreement with the teacher") if cells else None,
    )


def _agreement(history: History, axis: str) -> Markup | None:
    found = [Curve(name, _points(history, axis, key)) for key, name in AGREEMENT.items()]
    found = [curve for curve in found if curve.points]
    if not found:
        return None
    low = any(y < LOWEST_R2 for curve in found for _, y in curve.points)
    note = "R²: share of the variance of the teacher's activations that the student predicts; 0 is no better than their mean. "
    note += "Cosine: between the two activations. k-NN: agreement of nearest neighbours."
    note += f" Values below {LOWEST_R2} are drawn there.".replace("-", "\u2212") if low else ""
    chart = curves("Held-out agreement with the teacher", found, axis, LOWEST_R2, 1.0)
    return figure("Agreement with the teacher, held-out images", chart, note)


def _accuracy(history: History, axis: str) -> Markup | None:
    names = {"train_accuracy": "training", "val_accuracy": "validation", "probe": "few-shot probe"}
    found = [Curve(name, _points(history, axis, key)) for key, name in names.items()]
    found = [
        curve for curve in found if curve.points and not (curve.name == "few-shot probe" and len(curve.points) < 3)
    ]
    if not found:
        return None
    note = ""
    if any(curve.name == "training" for curve in found):
        note = "Of at most 1000 training images, and of the validation images, where there are any."
    if any(curve.name == "few-shot probe" for curve in found):
        note = "A linear classifier on the student's activations, fitted to the labelled images; judged on validation "
        note += "images, or leaving one out at a time."
    return figure("Accuracy while training", curves("Accuracy while training", found, axis, 0.0, 1.0), note)


def _points(history: History, axis: str, key: str) -> list[tuple[float, float]]:
    """(x, y) of the records that have the key; NaN where it is no finite number."""
    nan = float("nan")
    found = []
    for record in history:
        x, y = number(record, axis), number(record, key)
        if key in record and x is not None:
            found.append((x, nan if y is None else y))
    return found if any(isfinite(y) for _, y in found) else []
