"""Tables and figures from cells."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from kdedge.errors import RunError
from kdedge.paper.figures import draw_figures, redraw
from kdedge.paper.plan import SCALES, Plan, paper_plan
from kdedge.paper.runner import Cell, Outcome, run_cells
from kdedge.paper.tables import build_tables, markdown, spread, write_tables

VALUES = (0.41, 0.44, 0.49)
CURVE = [
    {"epoch": 0.5, "loss": 2.0},
    {"epoch": 1.0, "train_accuracy": 0.6, "val_accuracy": 0.4, "val_f1_macro": 0.35},
    {"epoch": 1.0, "loss": 1.0},
]


def cells(plan: Plan) -> list[Cell]:
    found = []
    for method in plan.methods:
        for seed in plan.seeds_of(method):
            scores = {f"{part}_{m}": VALUES[seed] for part in ("train", "test") for m in ("f1", "accuracy")}
            scores |= {"heldout_r2": 0.3 + seed / 100} if method.kind == "feature-kd" else {}
            lost = "weights not available: no hub" if method.name == "transfer-inception" else ""
            outcome = Outcome({} if lost else scores, [] if lost else CURVE, {"steps": 12})
            found.append(Cell(method.name, seed, "k", outcome, 2.0, lost))
    return found


def test_spread_is_mean_and_sample_deviation() -> None:
    found = spread(VALUES)
    assert found is not None
    assert found["mean"] == pytest.approx(statistics.mean(VALUES))
    assert found["std"] == pytest.approx(statistics.stdev(VALUES))
    assert spread((1.0,)) == {"mean": 1.0, "std": None, "n": 1}
    assert spread(()) is None


def test_tables_hold_the_papers_numbers_and_ours(tmp_path: Path) -> None:
    plan = paper_plan("small")
    tables = build_tables(plan, cells(plan), {"classes": 10, "notes": ["Test images: 1000 of 9000."]})
    write_tables(tables, tmp_path)
    assert json.loads((tmp_path / "tables.json").read_text()) == tables
    assert [table["table"] for table in tables["tables"]] == [1, 2, 3, 4, 5, 6]
    row = tables["tables"][1]["rows"][0]
    assert row["scores"]["accuracy"]["paper"] == {"train": 95.18, "test": 40.09}
    assert row["scores"]["accuracy"]["ours"]["test"]["mean"] == pytest.approx(100 * statistics.mean(VALUES))
    text = (tmp_path / "tables.md").read_text()
    ours = f"{100 * statistics.mean(VALUES):.2f} ± {100 * statistics.stdev(VALUES):.2f}"
    line = next(line for line in text.splitlines() if line.startswith("| ResNet-50 | 95.17 / 40.34"))
    assert f"| 95.18 / 40.09 | {ours} / {ours} |" in line
    for number in ("83.10", "91.16", "81.41 / 2.561", "0.92 / 0.79", "81.93 / 79.83", "-4062"):
        assert number in text
    assert "Not run: weights not available: no hub" in text
    assert next(line for line in text.splitlines() if line.startswith("| Inception-V3 | 100.00")).count("not available")
    assert "0.310 ± 0.010" in text  # held-out R2
    assert "Test images: 1000 of 9000." in text
    assert markdown(tables) == text


def test_one_table_alone() -> None:
    plan = paper_plan("smoke", seeds=1, only=("scratch-resnet18",))
    tables = build_tables(plan, cells(plan), {})
    assert [table["table"] for table in tables["tables"]] == [2]
    assert "±" not in markdown(tables).split("## Table 2")[1]


def test_figures_are_drawn_and_redrawn(tmp_path: Path) -> None:
    plan = replace(paper_plan("smoke", 1, only=("scratch-resnet18", "feature-kdedge")), scale=SCALES["smoke"])

    def execute(method: object, seed: int, folder: Path) -> Outcome:
        return Outcome({}, [*CURVE, {"epoch": 1.0, "r2": 0.3, "cosine": 0.5}])

    made = run_cells(plan, tmp_path, {}, execute, say=lambda _: None)
    written = draw_figures(plan.methods, made, tmp_path)
    assert [path.name for path in written] == ["figure-8.png", "figure-10.png"]
    before = written[0].read_bytes()
    assert before.startswith(b"\x89PNG")
    written[0].unlink()
    assert redraw(tmp_path) == written
    assert written[0].read_bytes()[:8] == before[:8]
    with pytest.raises(RunError, match="curve"):
        draw_figures(plan.methods, [replace(c, outcome=Outcome({})) for c in made], tmp_path)
