"""Pictures of the feature-crop experiment: two scatter plots side by side, and the crops that went in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdedge.files import atomic_path
from kdedge.preprocess import resize

__all__ = ["draw_crops", "draw_points"]

LOOKS = (("#0072b2", "o"), ("#d55e00", "^"), ("#009e73", "s"))  # Okabe and Ito: told apart by the colour-blind, too
TILE, GAP, MARGIN = 72, 3, 64
SHOWN = 40
DPI = 110


def draw_points(result: Mapping[str, Any], path: Path) -> None:
    """Scatter plots of ``result["untrained"]`` and ``result["trained"]``, a colour and marker a part, atomically to a PNG."""
    labels = np.asarray(result["labels"])
    figure = Figure(figsize=(9.6, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, kind in zip(figure.subplots(1, 2), ("untrained", "trained"), strict=True):
        points = np.asarray(result[kind]["points"], float)
        for part, (color, marker) in zip(result["parts"], LOOKS, strict=True):
            x, y = points[labels == part].T
            axes.scatter(x, y, s=38, c=color, marker=marker, label=part, edgecolors="white", linewidths=0.6, alpha=0.9)
        scores = (result[kind][f"silhouette_{what}"] for what in ("tsne", "activations"))
        axes.set_title(
            "{}\nsilhouette {:.2f} of these points, {:.2f} of the activations".format(kind, *scores), fontsize=10
        )
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        axes.margins(0.08)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    title = (
        f"{result['teacher']}: {result['dimension']} activations of {len(labels)} crops of {len(result['faces'])} faces"
    )
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def draw_crops(crops: NDArray[np.uint8], parts: Sequence[str], path: Path) -> None:
    """The crops (F, 3, S, S, 3) of at most 40 faces in a row a part, a column a face, atomically to a PNG."""
    shown = crops[:SHOWN]
    columns, rows, step = len(shown), len(parts), TILE + GAP
    sheet = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for column, face in enumerate(shown):
        for row, crop in enumerate(face):
            sheet[row * step : row * step + TILE, column * step : column * step + TILE] = resize(crop, TILE)
    height, width = sheet.shape[:2]
    full = (width + MARGIN + GAP, height + 2 * GAP)
    figure = Figure(figsize=(full[0] / DPI, full[1] / DPI))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((MARGIN / full[0], GAP / full[1], width / full[0], height / full[1]))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([row * step + TILE / 2 for row in range(rows)], parts, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")
