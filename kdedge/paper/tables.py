"""Tables 1 to 6 from finished cells, the paper's numbers beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.files import write_json, write_text
from kdedge.paper.numbers import METRICS, PRETRAINING_R2, TITLES, published
from kdedge.paper.plan import Method, Plan
from kdedge.paper.runner import Cell

__all__ = ["build_tables", "markdown", "spread", "write_tables"]

PRETRAINING = ("r2", "cosine", "mse", "mae")


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean and sample standard deviation (None for a single value) and the number of values; None for no value."""
    if not values:
        return None
    deviation = float(np.std(np.asarray(values, np.float64), ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(np.asarray(values, np.float64))), "std": deviation, "n": len(values)}


def build_tables(plan: Plan, cells: Sequence[Cell], data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values; scores in percent, pre-training scores as they are."""
    tables = []
    for number, title in TITLES.items():
        rows = [_row(method, _cells_of(method, cells)) for method in plan.methods if method.table == number]
        if rows:
            tables.append({"table": number, "title": title, "rows": rows})
    seconds = sum(cell.seconds for cell in cells)
    return {"scale": plan.scale.name, "seeds": list(plan.seeds), "data": dict(data), "tables": tables} | {
        "preparation": [_row(m, _cells_of(m, cells)) for m in plan.methods if m.table == 0],
        "seconds": round(seconds, 1),
    }


def _cells_of(method: Method, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.method == method.name]


def _row(method: Method, cells: list[Cell]) -> dict[str, Any]:
    ran = [cell for cell in cells if not cell.unavailable]

    def over(name: str, scale: float) -> dict[str, Any] | None:
        return spread([scale * cell.outcome.scores[name] for cell in ran if name in cell.outcome.scores])

    scores: dict[str, Any] = {}
    for metric in METRICS:
        paper = published(method.table, method.row, metric) if method.paper else None
        ours = {part: over(f"{part}_{metric}", 100.0) for part in ("train", "test")}
        if paper or any(ours.values()):
            scores[metric] = {"paper": {"train": paper.train, "test": paper.test} if paper else None, "ours": ours}
    pretraining = {name: found for name in PRETRAINING if (found := over(f"heldout_{name}", 1.0))}
    about = {key: value for cell in ran[:1] for key, value in cell.outcome.about.items()}
    return {
        "method": method.name,
        "row": method.row,
        "network": about.get("network", method.network),
        "in_paper": method.paper,
        "scores": scores,
        "pretraining": pretraining,
        "about": about,
        "remark": method.remark,
        "unavailable": next((cell.unavailable for cell in cells if cell.unavailable), ""),
        "seconds": round(sum(cell.seconds for cell in cells), 1),
    }


def markdown(tables: Mapping[str, Any]) -> str:
    """The tables for people."""
    data = tables["data"]
    parts = {name: data.get(name, "?") for name in ("classes", "train", "val", "test", "transfer")}
    about = (
        f"Ours: scale `{tables['scale']}`, {parts['classes']} classes, {parts['train']} labelled training images, "
        f"{parts['val']} validation, {parts['test']} test, {parts['transfer']} unlabelled; seeds "
        f"{', '.join(map(str, tables['seeds']))}, one fixed split. Scores are percent, train / test, ours as mean ± sample "
        "standard deviation over seeds; F1, precision and recall are macro averages (where an image has one class, their "
        "micro averages all equal the accuracy). The evaluation with the best "
        "validation accuracy is kept; test images are scored once. The paper's data were other images (105 faces, Pins): "
        "its numbers show the order of methods, not what ours should reach."
    )
    lines = [
        "# The paper's tables, and ours",
        "",
        about,
        "",
        *(f"- {note}" for note in data.get("notes", ())),
    ]
    for table in tables["tables"]:
        lines += ["", f"## Table {table['table']}: {table['title']}", "", *_table(table["rows"])]
        if any(row["pretraining"] for row in table["rows"]):
            lines += ["", *_pretraining(table["rows"])]
        lines += _notes(table["rows"])
    if tables["preparation"]:
        lines += ["", "## What they learned from", "", *_table(tables["preparation"]), *_notes(tables["preparation"])]
    return "\n".join([*lines, "", f"All cells together took {tables['seconds'] / 60:.1f} minutes.", ""])


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [metric for metric in METRICS if any(metric in row["scores"] for row in rows)]
    head = ["model", *(f"{metric}, {who}" for metric in shown for who in ("paper", "ours"))]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in rows:
        cells = [row["row"] + ("" if row["in_paper"] else " (kdedge)")]
        for metric in shown:
            found = row["scores"].get(metric, {"paper": None, "ours": {"train": None, "test": None}})
            cells += [_paper(found["paper"]), _ours(found["ours"], row["unavailable"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _paper(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    test = f"{value['test']:g}" if value["test"] < 10 else f"{value['test']:.2f}"
    return test if value["train"] is None else f"{value['train']:.2f} / {test}"


def _ours(value: Mapping[str, Any], unavailable: str) -> str:
    parts = [_spread(value[part], 2) for part in ("train", "test") if value[part]]
    if parts:
        return " / ".join(parts)
    return "not available" if unavailable else "–"


def _spread(value: Mapping[str, Any], digits: int) -> str:
    mean = f"{value['mean']:.{digits}f}"
    return mean if value["std"] is None else f"{mean} ± {value['std']:.{digits}f}"


def _pretraining(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Pre-training, held-out images (R² weighted by variance; the paper's is a plain average over dimensions):",
        "",
        "| model | R², paper | R², ours | cosine | MSE | MAE |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        found = row["pretraining"]
        if found:
            known = (
                PRETRAINING_R2.get(row["row"]) if row["in_paper"] and row["method"].startswith("feature-mse") else None
            )
            ours = (_spread(found[name], 3) if name in found else "–" for name in PRETRAINING)
            lines.append(f"| {row['row']} | {'–' if known is None else f'{known:g}'} | " + " | ".join(ours) + " |")
    return lines


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        words = [row["remark"]] if row["remark"] else []
        if row["unavailable"]:
            words.append(f"Not run: {row['unavailable']}")
        about = row["about"]
        told = [f"{key.replace('_', ' ')} {value}" for key, value in about.items() if key != "notes"]
        if told:
            words.append("; ".join(told) + ".")
        words += about.get("notes", [])
        if words:
            lines.append(f"- {row['row']}: {' '.join(words)}")
    return ["", *lines] if lines else []


def write_tables(tables: Mapping[str, Any], out: Path) -> None:
    """``tables.json`` and ``tables.md`` below ``out``."""
    write_json(out / "tables.json", tables)
    write_text(out / "tables.md", markdown(tables))
