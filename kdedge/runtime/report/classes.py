"""What a report shows class by class: confusion and scores."""

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from kdedge.runtime.charts import heat_map
from kdedge.runtime.evaluate import ClassScore, Scores
from kdedge.runtime.markup import DASH, SPACE, Markup, el, percent, plain, table
from kdedge.runtime.report.layout import interval, section

__all__ = ["classes"]

MOST_IN_MATRIX = 32
MOST_IN_TABLE = 40
MOST_PAIRS = 20


def classes(scores: Scores, noun: str = "test images") -> Markup | None:
    """The confusion matrix and the scores of each class.

    Args:
        noun: which images they are of.
    """
    names = [score.name for score in scores.classes]
    if not names:
        return None
    matrix: Markup | None
    if len(names) <= MOST_IN_MATRIX:
        chart = heat_map("Confusion matrix", names, scores.confusion)
        matrix = el("div", chart, class_="wide", tabindex="0", role="region", aria_label="Confusion matrix")
        note = "Rows: true class; columns: predicted class. The darker a cell, the larger its share of the row."
    else:
        matrix = _confusions(names, scores.confusion)
        note = f"With {len(names)} classes, only the most frequent confusions are listed."
    order = sorted(range(len(names)), key=lambda i: scores.classes[i].f1)[:MOST_IN_TABLE]
    caption = f"The {MOST_IN_TABLE} classes of {len(names)} with the lowest F1." if len(names) > MOST_IN_TABLE else None
    rows = [_class_row(scores.classes[i], int(scores.confusion[:, i].sum())) for i in sorted(order)]
    macro = scores.macro
    rows.append(
        ("macro mean", plain(macro.images), percent(macro.precision), percent(macro.recall), DASH, percent(macro.f1))
    )
    head = ("class", "images", "precision", "recall", f"95{SPACE}% interval", "F1")
    about = f"Recall: share of the images of a class that were found; its interval is a Wilson interval. On the {noun}."
    return section(
        "Class by class",
        el("figure", el("h3", f"Confusions on the {noun}"), matrix, el("figcaption", note)) if matrix else None,
        el("h3", "Scores"),
        table(head, rows, caption, label="Scores of each class", class_="totalled"),
        el("p", about, class_="note"),
    )


def _class_row(score: ClassScore, claimed: int) -> tuple[object, ...]:
    """A dash where a score has no denominator: a class without images, or one that was never predicted."""
    recall = score.recall if score.images and isfinite(score.recall) else None
    precision = score.precision if claimed and isfinite(score.precision) else None
    f1 = score.f1 if score.images + claimed and isfinite(score.f1) else None
    shares = (percent(precision), percent(recall), interval(recall, score.images), percent(f1))
    return (score.name, plain(score.images), *shares)


def _confusions(names: Sequence[str], counts: NDArray[np.int64]) -> Markup | None:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in worst]
    rows = [(names[i], names[j], int(wrong[i, j]), int(counts[i].sum())) for i, j in pairs if wrong[i, j]]
    return table(("true class", "taken for", "times", "of"), rows, class_="pairs") if rows else None
