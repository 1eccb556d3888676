"""The picture of a training: loss and held-out scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdedge.files import atomic_path

__all__ = ["draw_curves"]


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG of the loss (left) and of held-out R2, cosine and k-NN agreement (right) against the epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in history if "loss" in record]
    evaluations = [record for record in history if "r2" in record]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([r["epoch"] for r in steps], [r["loss"] for r in steps], color="#1f5fbf")
    left.set(title="training loss", xlabel="epoch")
    for key, name, color in (("r2", "R²", "#1f5fbf"), ("cosine", "cosine", "#d9822b"), ("knn", "k-NN", "#3a9a5b")):
        values = [max(-0.2, r[key]) for r in evaluations]
        right.plot([r["epoch"] for r in evaluations], values, marker="o", label=name, color=color)
    right.set(title="held-out agreement with the teacher", xlabel="epoch", ylim=(-0.22, 1.02))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
