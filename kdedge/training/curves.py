"""The picture of a training: loss and held-out scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdedge.files import atomic_path

__all__ = ["draw_curves", "draw_fit_curves"]


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG of the loss (left) and of held-out R2, cosine and k-NN agreement (right) against the epoch."""
    lines = (("r2", "R²", "#1f5fbf"), ("cosine", "cosine", "#d9822b"), ("knn", "k-NN", "#3a9a5b"))
    _draw(history, path, title, lines, "held-out agreement with the teacher", -0.22)


def draw_fit_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG of the loss (left) and of training and validation accuracy and F1 (right) against the epoch."""
    lines = (
        ("train_accuracy", "training accuracy", "#1f5fbf"),
        ("val_accuracy", "validation accuracy", "#d9822b"),
        ("val_f1_macro", "validation F1 (macro)", "#3a9a5b"),
    )
    _draw(history, path, title, lines, "scores", 0.0)


def _draw(
    history: Sequence[Mapping[str, Any]],
    path: Path,
    title: str,
    lines: Sequence[tuple[str, str, str]],
    about: str,
    least: float,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in history if "loss" in record]
    evaluations = [record for record in history if lines[0][0] in record]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(
        [r["epoch"] for r in steps], [r["loss"] for r in steps], color="#1f5fbf", marker="o" if len(steps) < 3 else None
    )
    left.set(title="training loss", xlabel="epoch")
    for key, name, color in lines:
        known = [record for record in evaluations if key in record]
        if known:
            values = [max(least + 0.02, record[key]) for record in known]
            right.plot([record["epoch"] for record in known], values, marker="o", label=name, color=color)
    right.set(title=about, xlabel="epoch", ylim=(least, 1.02))
    if right.lines:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
