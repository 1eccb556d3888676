"""The JSON of ``kdedge bench`` as tables for people: on a terminal, and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdedge.runtime.bench.energy import NOT_ASKED
from kdedge.runtime.bench.single_stream import RULE_SECONDS
from kdedge.runtime.bench.stages import STAGES
from kdedge.runtime.bench.start import STEPS

__all__ = ["Table", "as_markdown", "as_text", "bench_tables", "conditions_words", "notes"]

DASH = "-"


@dataclass(frozen=True)
class Table:
    """A table of words: a title, a head, rows; the first two columns are names. ``note`` explains it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def bench_tables(found: Mapping[str, Any]) -> list[Table]:
    """Tables of what :meth:`kdedge.runtime.bench.run.Bench.to_dict` gave; those without a row are left out."""
    rows: Sequence[Mapping[str, Any]] = found["rows"]
    tables = [
        _latency(rows),
        _single_stream(rows),
        _cold_start(rows),
        _stages(found.get("stages") or []),
        _sweep(found.get("sweep") or []),
        _energy(rows, found.get("energy") or {}),
    ]
    return [table for table in tables if table.rows]


def notes(found: Mapping[str, Any]) -> list[str]:
    """Sentences below the tables: the overhead, missing energy, conditions, warnings."""
    said = []
    if around := found.get("overhead"):
        low, high = around["interval"]
        unsure = " It cannot be told from nothing; measure with more --repeats." if low <= 0 else ""
        said.append(
            f"Classifier adds {around['microseconds']:.0f} us around session.run without decoding, {around['share']:.1%} of "
            f"its p50 of {around['run_p50_ms']:.2f} ms (95 % interval {low:.0f} to {high:.0f} us, {around['pairs']} pairs; "
            f"inside the pairs {around['paired_microseconds']:.0f} us).{unsure}"
        )
    energy = found.get("energy") or {}
    if (reason := energy.get("reason")) and reason != NOT_ASKED:
        said.append(f"Energy was not measured: {reason}.")
    said.append(conditions_words(found["conditions"]))
    said += [f"Warning: {warning}." for warning in found.get("warnings", [])]
    return said


def conditions_words(known: Mapping[str, Any]) -> str:
    """On what it was measured, in a sentence."""
    flags = f" ({' '.join(known['cpu_flags'])})" if known["cpu_flags"] else ""
    versions = known["versions"]
    runtime = versions.get("onnxruntime") or versions.get("onnxruntime-gpu", "?")
    extra = [
        str(known.get("build", {}).get("gpu", "")),
        known["power_mode"],
        f"governor {known['governor']}" if known["governor"] else "",
        f"{max(known['temperatures'].values()):.0f} degrees" if known["temperatures"] else "",
    ]
    seconds = f" and {known['min_seconds']:g} s" if known["min_seconds"] else ""
    return (
        f"{known['cpu']}{flags}, {known['threads']} of {known['cores_usable']} cores, "
        f"{''.join(f'{word}, ' for word in extra if word)}onnxruntime {runtime} ({', '.join(known['providers'])}), "
        f"{known['size']} px, at least {known['repeats']} timed runs{seconds} of each, in turns."
    )


def as_text(tables: Sequence[Table], said: Sequence[str]) -> str:
    """For a terminal; the first table goes without its title."""
    parts = []
    for place, table in enumerate(tables):
        lines = [table.head, *table.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
        text = [
            "  ".join(
                f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}"
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        note = [table.note] if table.note else []
        parts.append("\n".join([*([table.title] if place else []), *(line.rstrip() for line in text), *note]))
    return "\n\n".join([*parts, "\n".join(said)])


def as_markdown(title: str, tables: Sequence[Table], said: Sequence[str]) -> str:
    """A page."""
    parts = [f"# {title}"]
    for table in tables:
        rule = ["---", "---", *["---:"] * (len(table.head) - 2)]
        lines = ["| " + " | ".join(line) + " |" for line in (table.head, rule, *table.rows)]
        parts += [f"## {table.title}", "\n".join(lines), *([table.note] if table.note else [])]
    return "\n\n".join([*parts, *said]) + "\n"


def _latency(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = ("model", "precision", "MB", "parameters", "p50 ms", "p90 ms", "p99 ms", "mean ms", "images/s", "peak MB")
    ratios = ("faster", "than int8", "smaller")
    table = []
    for row in rows:
        times = [f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")]
        than = [row["times_faster"], row["times_faster_int8"], row["times_smaller"]]
        table.append(
            (
                *_names(row),
                f"{row['bytes'] / 1e6:.2f}",
                f"{row['parameters']:,}" if row["parameters"] else DASH,
                *times,
                f"{row['images_per_s']:.1f}",
                _plain(row["peak_rss_mb"], ".0f"),
                *(f"{value:.1f}x" if value else DASH for value in than),
            )
        )
    odd = sorted({row["batch"] for row in rows} - {1})
    note = ""
    if any(row["role"] == "teacher" for row in rows):
        note = "Faster and smaller: than the teacher's fp32 file; than int8: times faster than its int8 file."
    if odd:
        fixed = f"Files that fix {', '.join(map(str, odd))} images a run are timed at that; their times are of a run."
        note = f"{note} {fixed}".strip()
    return Table("Latency of one image", head + ratios, tuple(table), note)


def _single_stream(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = ("model", "precision", "runs", "seconds", "p90 ms", "p90 at most, ms")
    found = [(row, row["single_stream"]) for row in rows if row.get("single_stream")]
    table = tuple(
        (
            *_names(row),
            f"{its['queries']}",
            f"{its['seconds']:.1f}",
            f"{its['p90_ms']:.2f}",
            _plain(its["bound_ms"], ".2f"),
        )
        for row, its in found
    )
    note = "The last column holds with 99 % confidence (the early-stopping estimate of MLPerf's single stream). "
    if not all(its["long_enough"] for _, its in found):
        note += f"The rules ask for {RULE_SECONDS:.0f} s, these runs are shorter (--min-seconds). "
    return Table("Single stream", head, table, f"{note}In the style of MLPerf Inference; no MLPerf result.")


def _cold_start(rows: Sequence[Mapping[str, Any]]) -> Table:
    built = any(row.get("engine_build_s") for row in rows)
    head = ("model", "precision", *(f"{step}" for step in STEPS), "sum ms", *(["engine s"] if built else []))
    found = [(row, row["cold_start"]) for row in rows if row.get("cold_start")]
    table = tuple(
        (
            *_names(row),
            *(f"{its['steps_ms'][step]:.0f}" for step in STEPS),
            f"{its['total_ms']:.0f}",
            *([_plain(row.get("engine_build_s"), ".1f")] if built else []),
        )
        for row, its in found
    )
    count = len(found[0][1]["samples"]) if found else 0
    processes = f"the median of {count} fresh processes" if count > 1 else "one fresh process"
    note = f"Milliseconds, {processes}; its files were in the page cache."
    return Table("Cold start", head, table, note)


def _stages(found: Sequence[Mapping[str, Any]]) -> Table:
    head = ("image", "pixels", *STAGES, "end to end ms")
    table = tuple(
        (
            its["image"],
            f"{its['width']}x{its['height']}",
            *(f"{its['p50_ms'][stage]:.2f}" for stage in (*STAGES, "end to end")),
        )
        for its in found
    )
    return Table("From the file to the answer", head, table, "Medians, milliseconds, of Classifier.predict(path).")


def _sweep(cells: Sequence[Mapping[str, Any]]) -> Table:
    batches = sorted({cell["batch"] for cell in cells})
    head = ("model", "precision", "threads", *(f"batch {batch}" for batch in batches))
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for cell in cells:
        line = rows.setdefault((*_names(cell), str(cell["threads"])), {})
        line[cell["batch"]] = f"{cell['images_per_s']:.1f}"
    places = {names: place for place, names in enumerate(dict.fromkeys(_names(cell) for cell in cells))}
    ordered = sorted(rows, key=lambda key: (places[key[:2]], int(key[2])))
    table = tuple((*key, *(rows[key].get(batch, DASH) for batch in batches)) for key in ordered)
    return Table("Throughput, images/s", head, table)


def _energy(rows: Sequence[Mapping[str, Any]], energy: Mapping[str, Any]) -> Table:
    head = ("model", "precision", "mJ/image", "with idle", "idle W", "busy W", "images")
    table = tuple(
        (
            *_names(row),
            *(f"{1000 * its[key]:.2f}" for key in ("j_per_image", "gross_j_per_image")),
            *(f"{its[key]:.2f}" for key in ("idle_w", "busy_w")),
            f"{its['images']}",
        )
        for row in rows
        if (its := row.get("energy"))
    )
    note = f"Measured by {energy.get('source')}; mJ/image is what came on top of the idle power measured right before."
    return Table("Energy", head, table, note)


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["model"]), str(row["precision"])


def _plain(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)
