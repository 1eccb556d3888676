"""The picture is looked at by its pixels and by what the axes were given."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from kdedge.training.curves import draw_curves, draw_fit_curves
from kdedge.training.verdict import Verdict

STALLED = Verdict(
    "stalled", "Stalled since epoch 2 (held-out R2 0.30): overfitting; add transfer images or views.", 2.0
)


def history(evaluations=4, r2=0.3, falls=0.5, **more):
    """Ten steps before each evaluation; the loss falls by ``falls`` in all."""
    count = 10 * evaluations
    records = []
    for step in range(1, count + 1):
        records.append(
            {"step": step, "epoch": step / 10, "loss": falls ** (step / count), "lr": 1e-3 * (1 - step / count)}
        )
        if step % 10 == 0:
            records.append({"step": step, "epoch": step / 10, "r2": r2, "cosine": 0.6, "knn": 0.2} | more)
    return records


@pytest.fixture
def drawn(monkeypatch):
    """The figure of the last picture, as it was when it was written."""
    kept = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k))[1])
    return lambda: kept[-1]


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes, name):
    return next(line for line in axes.lines if str(line.get_label()).startswith(name))


def test_what_is_drawn(tmp_path: Path, drawn):
    records = history(probe=0.7)
    draw_curves(records, tmp_path / "c.png", "student imitating teacher")
    left, right, rate = drawn().axes
    steps = [record for record in records if "loss" in record]
    assert line(left, "loss").get_xydata() == pytest.approx(np.array([(r["epoch"], r["loss"]) for r in steps]))
    assert line(rate, "learning rate").get_ydata() == pytest.approx([r["lr"] for r in steps if r["lr"] > 0])
    assert labels(left) == ["loss", f"learning rate, at most {1e-3 * (1 - 1 / 40):.2g}"]
    assert labels(right) == ["R²", "cosine", "k-NN", "few-shot probe"]
    assert line(right, "few-shot").get_xydata() == pytest.approx(np.array([(n, 0.7) for n in (1, 2, 3, 4)]))
    assert drawn().texts[-1].get_text() == "student imitating teacher"  # no caption


def test_the_probe_is_left_out_where_there_is_none(tmp_path: Path, drawn):
    draw_curves(history(), tmp_path / "c.png", "t")
    assert labels(drawn().axes[1]) == ["R²", "cosine", "k-NN"]
    draw_curves(history(probe=math.nan), tmp_path / "c.png", "t")
    assert labels(drawn().axes[1]) == ["R²", "cosine", "k-NN"]


@pytest.mark.parametrize(("falls", "scale"), [(0.5, "linear"), (0.11, "linear"), (0.05, "log"), (-1.0, "linear")])
def test_more_than_a_decade_of_loss_is_drawn_in_logarithms(tmp_path: Path, drawn, falls, scale):
    records = history(falls=falls) if falls > 0 else [record | {"loss": -record["step"]} for record in history()]
    draw_curves(records, tmp_path / "c.png", "t")
    assert drawn().axes[0].get_yscale() == scale


def test_a_hopeless_r2_stands_at_the_edge_and_its_value_in_the_legend(tmp_path: Path, drawn):
    draw_curves(history(r2=-50.0), tmp_path / "c.png", "t")
    right = drawn().axes[1]
    assert right.get_ylim() == (-0.2, 1.02)
    assert labels(right)[0] == "R² (-50)"
    assert min(line(right, "R²").get_ydata()) > -0.2


def test_the_verdict_is_the_caption_and_a_standstill_is_marked(tmp_path: Path, drawn):
    long = Verdict(
        "not learning", "The student is NOT learning ($1); " + "one more cause and what to do, " * 12 + "end."
    )
    sizes = []
    for verdict in (None, Verdict("learning", "Learning."), STALLED, long):
        draw_curves(history(), tmp_path / "c.png", "t", verdict)
        sizes.append(drawn().get_size_inches()[1])
        dotted = [line for axes in drawn().axes[:2] for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(line.get_xdata()) for line in dotted] == ([[2.0, 2.0]] * 2 if verdict is STALLED else [])
        if verdict:
            said = drawn().texts[-1]
            assert said.get_text().replace("\n", " ").replace("\\$", "$") == verdict.words
            box = said.get_window_extent()
            width, _ = drawn().canvas.get_width_height()
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y0 >= 0
            labels_end = min(axes.xaxis.label.get_window_extent().y0 for axes in drawn().axes[:2])
            assert box.y1 < labels_end
    assert sizes[0] < sizes[1] <= sizes[2] < sizes[3]


@pytest.mark.parametrize(
    "records", [[], [{"epoch": 0.1, "loss": 1.0}], history(1), history(40), [{"epoch": 1.0, "r2": 0.5}]]
)
def test_any_number_of_records(tmp_path: Path, records):
    draw_curves(records, tmp_path / "c.png", "t", STALLED)
    pixels = cv2.imread(str(tmp_path / "c.png"))
    assert pixels.shape[1] == 1056
    assert (pixels.max(2) - pixels.min(2)).max() > 60  # something coloured: at the very least the caption


def test_losses_that_are_no_numbers_are_left_out(tmp_path: Path, drawn):
    records = [*history(), {"epoch": 4.1, "loss": math.nan}, {"epoch": 4.2, "loss": math.inf}]
    draw_curves(records, tmp_path / "c.png", "t")
    assert len(line(drawn().axes[0], "loss").get_xdata()) == 40


def test_a_failed_drawing_leaves_the_picture_that_was_there(tmp_path: Path, monkeypatch):
    path = tmp_path / "c.png"
    draw_curves(history(), path, "t")
    before = path.read_bytes()

    def broken(self, place, **options):
        Path(place).write_bytes(b"half a pict")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        draw_curves(history(8), path, "t")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_curves_of_a_classifier(tmp_path: Path, drawn):
    records = [
        {"epoch": float(n), "loss": 1.0, "train_accuracy": 0.6, "val_accuracy": 0.5, "val_f1_macro": 0.4}
        for n in range(3)
    ]
    draw_fit_curves(records, tmp_path / "c.png", "t")
    right = drawn().axes[1]
    assert labels(right) == ["training accuracy", "validation accuracy", "validation F1"]
    box = right.get_legend().get_window_extent()
    assert box.x1 <= drawn().canvas.get_width_height()[0]
    assert list(line(right, "validation F1").get_ydata()) == [0.4] * 3
