"""The picture of a training: loss and scores against the epoch."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdedge.files import atomic_path
from kdedge.training.verdict import Verdict

__all__ = ["draw_curves", "draw_fit_curves"]

Records = Sequence[Mapping[str, Any]]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#1f5fbf", "#d9822b", "#3a9a5b", "#8a4fb0", "#9a9a9a"

LOWEST = -0.2
"""Scores below are drawn here; an R2 of -50 would flatten everything else."""

COLUMNS = 132
"""Characters of a line of the caption."""


def draw_curves(history: Records, path: Path, title: str, verdict: Verdict | None = None) -> None:
    """Write a PNG of a distillation: training loss and learning rate (left), held-out scores (right).

    Scores are R2, cosine, k-NN agreement and, where it was measured, the few-shot probe. The verdict's words stand below;
    a dotted line marks the epoch since which scores stand still. Safe to call at every evaluation: the file is replaced as
    a whole.

    Args:
        history: records of steps (``epoch``, ``loss``, ``lr``) and of evaluations (``epoch``, ``r2``, ``cosine``, ...).
    """
    lines = (
        ("r2", "R²", BLUE),
        ("cosine", "cosine", ORANGE),
        ("knn", "k-NN", GREEN),
        ("probe", "few-shot probe", PURPLE),
    )
    _draw(history, path, title, lines, "held-out agreement with the teacher", LOWEST, verdict)


def draw_fit_curves(history: Records, path: Path, title: str) -> None:
    """Write a PNG of the loss (left) and of training and validation accuracy and F1 (right) against the epoch."""
    lines = (
        ("train_accuracy", "training accuracy", BLUE),
        ("val_accuracy", "validation accuracy", ORANGE),
        ("val_f1_macro", "validation F1", GREEN),
    )
    _draw(history, path, title, lines, "accuracy and macro F1", 0.0, None)


def _draw(
    history: Records,
    path: Path,
    title: str,
    lines: Sequence[tuple[str, str, str]],
    about: str,
    least: float,
    verdict: Verdict | None,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    caption = _caption(verdict.words) if verdict else []
    below = 0.2 * len(caption) + (0.1 if caption else 0.0)
    height = 3.6 + below
    figure = Figure(figsize=(9.6, height))
    FigureCanvasAgg(figure)
    # margins in inches: a layout engine would draw everything twice
    figure.subplots_adjust(left=0.065, right=0.985, wspace=0.24, top=1 - 0.88 / height, bottom=(0.52 + below) / height)
    left, right = figure.subplots(1, 2)
    _draw_loss(left, history)
    _draw_scores(right, history, lines, least)
    left.set_title("training loss", fontsize=10, pad=21)
    right.set_title(about, fontsize=10, pad=21)
    end = max((record["epoch"] for record in history if "epoch" in record), default=1.0)
    for axes in (left, right):
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_xlim(0.0, 1.03 * max(end, 1e-3))
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if verdict and verdict.state == "stalled" and verdict.since is not None and math.isfinite(verdict.since):
            axes.axvline(verdict.since, color="#555555", linestyle=":", linewidth=1.2)
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    if verdict and caption:
        color = "#a02c2c" if verdict.state in ("not learning", "stalled") else "#333333"
        text = "\n".join(caption).replace("$", r"\$")
        figure.text(0.5, 0.1 / height, text, ha="center", va="bottom", fontsize=8.5, color=color, linespacing=1.5)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _caption(words: str) -> list[str]:
    """Lines of about the same length."""
    count = len(textwrap.wrap(words, COLUMNS))
    return textwrap.wrap(words, min(COLUMNS, len(words) // max(count, 1) + 10))


def _draw_loss(axes: Any, history: Records) -> None:
    """Loss, on a log axis where it spans more than a decade, and the learning rate faintly behind it."""
    steps = [record for record in history if math.isfinite(record.get("loss", math.nan))]
    losses = [record["loss"] for record in steps]
    epochs = [record["epoch"] for record in steps]
    axes.plot(epochs, losses, color=BLUE, linewidth=1.4, marker="o" if len(steps) < 3 else None, label="loss")
    if losses and min(losses) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")
    rates = [(record["epoch"], record["lr"]) for record in history if record.get("lr", 0.0) > 0 and "epoch" in record]
    if len(rates) < 2:
        return
    peak = max(rate for _, rate in rates)
    behind = axes.twinx()
    behind.plot(*zip(*rates, strict=True), color=GREY, linewidth=0.8, label=f"learning rate, at most {peak:.2g}")
    behind.set_ylim(0.0, 1.08 * peak)
    behind.set_axis_off()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    _legend(axes, [*axes.lines, *behind.lines])


def _draw_scores(axes: Any, history: Records, lines: Sequence[tuple[str, str, str]], least: float) -> None:
    many = sum(lines[0][0] in record for record in history) > 25
    for key, name, color in lines:
        known = [record for record in history if not math.isnan(record.get(key, math.nan))]
        if not known:
            continue
        values = [record[key] for record in known]
        epochs = [record["epoch"] for record in known]
        floor = least + 0.02
        label = name if values[-1] >= floor else f"{name} ({values[-1]:.3g})"
        drawn = [max(floor, value) for value in values]
        axes.plot(epochs, drawn, marker="o", markersize=2.5 if many else 4.5, linewidth=1.4, label=label, color=color)
        hidden = [epoch for epoch, value in zip(epochs, values, strict=True) if value < floor]
        axes.plot(hidden, [floor] * len(hidden), linestyle="", marker="v", markersize=6, color=color)
    axes.set_ylim(least, 1.02)
    _legend(axes, axes.lines)


def _legend(axes: Any, lines: Sequence[Any]) -> None:
    """A row between title and axes, where no curve can run through it."""
    named = [line for line in lines if not line.get_label().startswith("_")]
    if named:
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "borderaxespad": 0.2}
        axes.legend(
            handles=named, ncols=len(named), frameon=False, fontsize=8, columnspacing=1.2, handlelength=1.4, **place
        )
