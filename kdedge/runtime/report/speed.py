"""Latency and size beside other networks, every measured row, and the conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdedge.runtime.charts import Bar, bars
from kdedge.runtime.markup import DASH, SPACE, Markup, el, file_size, mapping, milliseconds, number, plain, table
from kdedge.runtime.report.head import FAMILIAR
from kdedge.runtime.report.layout import Summary, facts, figure, grid, headed, section

__all__ = ["bench_summary", "speed"]

NETWORKS = {
    "student_int8": "Student, int8",
    "student_fp32": "Student, fp32",
    "resnet50_int8": "ResNet-50, int8",
    "resnet50_fp32": "ResNet-50, fp32",
}

MOST_NOTES = 6


@dataclass(frozen=True)
class _Timed:
    name: str
    p50: float | None
    size: float | None
    strong: bool


def speed(summary: Summary) -> Markup | None:
    """Bars, a table of all rows, and what they were measured on; None where nothing was measured and no file is there."""
    found = _timed(summary)
    latencies = [
        Bar(each.name, each.p50, milliseconds(each.p50), strong=each.strong) for each in found if each.p50 is not None
    ]
    sizes = [
        Bar(each.name, each.size, file_size(each.size), strong=each.strong) for each in found if each.size is not None
    ]
    bench = mapping(summary, "bench")
    return section(
        "Speed and size",
        grid(
            figure("Latency of one image", bars("Median latency", latencies) if latencies else None, "Median (p50)."),
            figure("File size", bars("File size", sizes) if sizes else None, "ONNX file, in powers of 1000 bytes."),
        ),
        _notes(summary.get("bench_notes")),
        headed("All that was measured", _table(_rows(summary))),
        headed("From the file to the answer", _stages(bench.get("stages"))),
        headed("Measured on", facts(bench.get("conditions"), "Conditions of the measurement")),
    )


def _notes(found: object) -> Markup | None:
    """What disturbed the measurement, or does not fit."""
    notes = [str(text) for text in found] if isinstance(found, list | tuple) else []
    sentences = (text.rstrip(".") + "." for text in notes[:MOST_NOTES])
    return headed("Beware", el("ul", *(el("li", text) for text in sentences))) if notes else None


def _stages(found: object) -> Markup | None:
    """Where the time goes of images of several sizes."""
    stages = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []
    names = dict.fromkeys(name for each in stages for name in mapping(each, "p50_ms"))
    rows = [
        (str(each.get("image")), *(milliseconds(number(each, "p50_ms", name)) for name in names)) for each in stages
    ]
    return table(("image, median of", *names), rows, label="Stages of classifying one file") if names else None


def _timed(summary: Summary) -> list[_Timed]:
    """The networks by what the summary calls them; other rows of a bench besides."""
    found = []
    for key, name in NETWORKS.items():
        p50, size = number(summary, "p50_ms", key), number(summary, f"{key.removeprefix('student_')}_bytes")
        if p50 is not None or size is not None:
            found.append(_Timed(name, p50, size, key == "student_int8"))
    others = summary.get("others")
    for row in others if isinstance(others, list | tuple) else ():
        found.append(_Timed(_name(row), number(row, "p50_ms"), number(row, "bytes"), False))
    return found


def _rows(summary: Summary) -> Sequence[Mapping[str, Any]]:
    rows = mapping(summary, "bench").get("rows") or ()
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []


def _name(row: Mapping[str, Any]) -> str:
    model = str(row.get("model") or "network")
    return ", ".join(text for text in (FAMILIAR.get(model, model), str(row.get("precision") or "")) if text)


def _table(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    columns = {
        "file": [file_size(number(row, "bytes")) for row in rows],
        "weights": [plain(number(row, "parameters")) for row in rows],
        "p50": [milliseconds(number(row, "p50_ms")) for row in rows],
        "p90": [milliseconds(number(row, "p90_ms")) for row in rows],
        "p99": [milliseconds(number(row, "p99_ms")) for row in rows],
        "images/s": [plain(number(row, "images_per_s"), 1) for row in rows],
        "cold start": [milliseconds(number(row, "cold_start", "total_ms")) for row in rows],
        "energy": [_millijoules(number(row, "energy", "j_per_image")) for row in rows],
        "peak memory": [_megabytes(number(row, "peak_rss_mb")) for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) - {DASH}}
    names = [" ".join(str(row[key]) for key in ("model", "precision") if row.get(key)) for row in rows]
    body = zip(names, *columns.values(), strict=True)
    return table(("network", *columns), body, label="Latency, size and memory") if columns else None


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{value:.0f}{SPACE}MB"


def _millijoules(joules: float | None) -> str:
    return DASH if joules is None else f"{1000 * joules:.3g}{SPACE}mJ"


def bench_summary(bench: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """What a bench file says, by the names of ``summary.json``.

    Rows of the role ``student`` are this run's files if their sizes are those of the files; else all of them are listed as
    other networks, with a note.

    Args:
        bench: what ``kdedge bench --out`` wrote.
        sizes: precision to bytes of this run's files.
    """
    rows = _rows({"bench": bench})
    single = [row for row in rows if row.get("batch", 1) == 1]
    ours = {str(row.get("precision")): row for row in single if row.get("role") == "student"}
    same = {p: row for p, row in ours.items() if p in sizes and number(row, "bytes") == sizes[p]}
    teachers = {str(row.get("precision")): row for row in single if row.get("role") == "teacher"}
    warnings = bench.get("warnings")
    notes = [str(text) for text in warnings] if isinstance(warnings, list) else []
    if ours and not same:
        notes.append("The students of the bench file are not the files of this run: their sizes differ.")
    p50 = {f"student_{p}": number(row, "p50_ms") for p, row in same.items()}
    found: dict[str, Any] = {"bench": bench, "bench_notes": notes}
    reference = str(next(iter(teachers.values())).get("model")) if teachers else ""
    others = [row for row in single if row not in same.values()]
    if reference == "torchvision/resnet50":
        p50 |= {f"resnet50_{p}": number(row, "p50_ms") for p, row in teachers.items()}
        found |= {f"resnet50_{p}_bytes": number(row, "bytes") for p, row in teachers.items()}
        others = [row for row in others if row not in teachers.values()]
    found |= {"p50_ms": p50, "others": others, "reference": reference}
    small, large = same.get("int8"), teachers.get("fp32")
    if small and large:
        for name, key in (("speedup", "p50_ms"), ("size_ratio", "bytes")):
            whole, part = number(large, key), number(small, key)
            found[name] = whole / part if whole and part else None
    return found
