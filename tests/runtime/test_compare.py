"""Rows of a benchmark: complete, in order, with their conditions; no figure is asserted."""

import json
from pathlib import Path

import pytest

from kdedge.errors import ModelError
from kdedge.runtime.compare import Candidate, compare
from kdedge.runtime.conditions import conditions
from kdedge.runtime.memory import peak_rss_mb
from tests.conftest import write_color_model


def test_rows_and_conditions(color_model: Path, tmp_path: Path) -> None:
    teacher = write_color_model(tmp_path / "teacher.onnx")
    candidates = [
        Candidate("colors", "int8", color_model),
        Candidate("big", "fp32", teacher, parameters=7, role="teacher"),
    ]
    found = compare(candidates, 16, threads=1, repeats=12, warmup=1, batch=2, memory=False)
    value = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [(row["model"], row["precision"], row["role"]) for row in value["rows"]] == [
        ("colors", "int8", "student"),
        ("big", "fp32", "teacher"),
    ]
    for row, candidate in zip(value["rows"], candidates, strict=True):
        assert row["bytes"] == candidate.path.stat().st_size
        assert len(row["samples_ms"]) == 12
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= max(row["samples_ms"])
        assert row["provider"] == "CPUExecutionProvider"
    assert [row["parameters"] for row in value["rows"]] == [12, 7]
    assert value["rows"][1]["times_faster"] == value["rows"][1]["times_smaller"] == 1.0
    known = value["conditions"]
    assert (known["threads"], known["batch"], known["size"], known["repeats"]) == (1, 2, 16, 12)
    assert known["providers"] == ["CPUExecutionProvider"]


def test_without_a_teacher_there_is_no_ratio(color_model: Path) -> None:
    found = compare([Candidate("colors", "fp32", color_model)], 16, threads=1, repeats=1, memory=False)
    assert found.speedup(found.rows[0]) is None
    assert found.shrink(found.rows[0]) is None


def test_what_cannot_run_is_named(color_model: Path) -> None:
    with pytest.raises(ModelError, match=r"student\.onnx.*\(1, 3, 32, 32\)"):
        compare([Candidate("colors", "fp32", color_model)], 32, threads=1, memory=False)


def test_conditions_name_the_machine() -> None:
    known = conditions()
    assert known["cpu"]
    assert known["cores_usable"] >= 1
    assert {"python", "kdedge", "onnxruntime", "numpy"} <= set(known["versions"])
    json.dumps(known, allow_nan=False)


def test_memory_is_that_of_a_fresh_process(color_model: Path) -> None:
    heap = bytearray(300_000_000)  # what this process holds must not count
    heap[::4096] = b"x" * len(heap[::4096])
    assert 20 < peak_rss_mb(color_model, 16, threads=1) < 250
    with pytest.raises(ModelError, match=r"measuring its memory failed"):
        peak_rss_mb(color_model, 32, threads=1)
