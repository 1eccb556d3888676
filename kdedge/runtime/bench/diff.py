"""Two results of ``kdedge bench`` beside each other: what became faster, with how much certainty."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdedge.errors import RunError
from kdedge.runtime.bench.stats import median_ratio
from kdedge.runtime.bench.table import Table

__all__ = ["bench_diff", "read_bench_file"]

SAME = ("cpu", "cpu_flags", "governor", "power_mode", "threads", "size", "batch", "providers", "versions")
"""Conditions that should not differ where the files alone are to be judged."""


def read_bench_file(path: str | Path) -> dict[str, Any]:
    """What ``kdedge bench --out`` wrote.

    Raises:
        RunError: the file is missing or something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if (
            all(row["samples_ms"] and row["model"] and row["precision"] for row in found["rows"])
            and found["conditions"]
        ):
            return dict(found)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError):
        pass
    raise RunError(f"{path}: not what 'kdedge bench --out FILE' writes.")


def bench_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Table, list[str]]:
    """A table of the networks that both hold, and what differs in the conditions.

    Raises:
        RunError: they have no network in common.
    """
    firsts = {(row["model"], row["precision"]): row for row in before["rows"]}
    rows = []
    for row in after["rows"]:
        key = (row["model"], row["precision"])
        if (first := firsts.get(key)) is None:
            continue
        ratio, low, high = median_ratio(first["samples_ms"], row["samples_ms"])
        verdict = "faster" if low > 1 else "slower" if high < 1 else "no difference shown"
        rows.append(
            (
                *key,
                f"{first['p50_ms']:.2f}",
                f"{row['p50_ms']:.2f}",
                f"{ratio:.3f}x",
                f"{low:.3f}-{high:.3f}",
                verdict,
            )
        )
    if not rows:
        raise RunError("the two files have no network of the same name and precision.")
    head = ("model", "precision", "before ms", "after ms", "faster", "95 %", "verdict")
    known, other = before["conditions"], after["conditions"]
    said = [
        f"{key}: {known.get(key)} before, {other.get(key)} after" for key in SAME if known.get(key) != other.get(key)
    ]
    note = "Medians; the interval is of the samples (bootstrap), not of the machine's moods: measure again to be sure."
    return Table("Before and after", head, tuple(rows), note), said
