"""Curves of the trainings (the paper's Figures 8 to 10): loss, accuracy and F1 against the epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdedge.errors import RunError
from kdedge.files import atomic_path
from kdedge.paper.plan import METHODS, Method
from kdedge.paper.runner import Cell, read_cells

__all__ = ["FIGURES", "draw_figures", "redraw"]

FIGURES: Mapping[int, tuple[str, tuple[int, ...]]] = {
    8: ("training from scratch", (1, 2)),
    9: ("transfer learning and label distillation", (3, 4)),
    10: ("feature distillation", (5, 6)),
}
LINES = (("val_accuracy", "accuracy", "validation accuracy"), ("val_f1_macro", "F1", "validation F1 (macro)"))
IMITATION = (("r2", "R²", "held-out R²"), ("cosine", "cosine", "held-out cosine"))


def redraw(out: Path) -> list[Path]:
    """Draw the figures of finished cells again."""
    return draw_figures(METHODS, read_cells(out), out)


def draw_figures(methods: Sequence[Method], cells: Sequence[Cell], out: Path) -> list[Path]:
    """Write ``figure-8.png`` to ``figure-10.png`` below ``out``; a figure without any recorded curve is left out.

    Each method has one colour; its seeds are thin lines of it.

    Raises:
        RunError: no cell has a curve.
    """
    written: list[Path] = []
    for number, (title, tables) in FIGURES.items():
        chosen = [m for m in methods if m.table in tables]
        curves = [(m, c.outcome.history) for m in chosen for c in cells if c.method == m.name and c.outcome.history]
        if curves:
            path = out / f"figure-{number}.png"
            _draw(curves, title, path)
            written.append(path)
    if not written:
        raise RunError(f"{out}: no training in it has recorded a curve; run methods of Tables 1 to 6 first.")
    return written


def _draw(curves: Sequence[tuple[Method, Sequence[Mapping[str, Any]]]], title: str, path: Path) -> None:
    panels = [("loss", "training loss", "training loss")]
    seen = {key for _, history in curves for record in history for key in record}
    panels += [panel for panel in (*IMITATION, *LINES) if panel[0] in seen]
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(method.name for method, _ in curves))
    for axes, (key, _, about) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        labelled = set[str]()
        for method, history in curves:
            points = [(record["epoch"], record[key]) for record in history if key in record]
            if not points:
                continue
            color = f"C{names.index(method.name) % 10}"
            name = f"{method.name} (triplets)" if method.kind == "oneshot" and key != "loss" else method.name
            label = None if method.name in labelled else name
            labelled.add(method.name)
            style = {"marker": "o", "markersize": 3} if key != "loss" or len(points) < 3 else {}
            axes.plot([p[0] for p in points], [p[1] for p in points], color=color, label=label, linewidth=1.1, **style)
        if key == "val_accuracy":
            _add_training(axes, curves, names)
        if key in ("r2", "cosine"):
            axes.set_ylim(bottom=max(axes.get_ylim()[0], -1.0))
        axes.set(title=about, xlabel="epoch")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if labelled:
            axes.legend(frameon=False, fontsize=7)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _add_training(axes: Any, curves: Sequence[tuple[Method, Sequence[Mapping[str, Any]]]], names: list[str]) -> None:
    """Training accuracy as dotted lines of the same colours."""
    label: str | None = "training (dotted)"
    for method, history in curves:
        points = [(record["epoch"], record["train_accuracy"]) for record in history if "train_accuracy" in record]
        if points:
            color = f"C{names.index(method.name) % 10}"
            axes.plot([p[0] for p in points], [p[1] for p in points], ":", color=color, linewidth=1.0, label=label)
            label = None
