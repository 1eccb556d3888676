"""Rows of a benchmark: complete, in order, with their conditions; no figure is asserted."""

import json
from pathlib import Path

import pytest

from kdedge.errors import ModelError
from kdedge.runtime.compare import Candidate, Comparison, Row, compare
from kdedge.runtime.conditions import conditions
from kdedge.runtime.latency import Latency
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
        assert row["provider"] == "cpu"
        assert row["batch"] == 2
        assert row["single_stream"] is None  # which is of one image at a time
        assert min(row["samples_ms"]) <= row["mean_ms"] <= max(row["samples_ms"])
    assert [row["parameters"] for row in value["rows"]] == [12, 7]
    assert value["rows"][1]["times_faster"] == value["rows"][1]["times_smaller"] == 1.0
    known = value["conditions"]
    assert (known["threads"], known["batch"], known["size"], known["repeats"]) == (1, 2, 16, 12)
    assert known["providers"] == ["cpu"]
    assert known["build"]["onnxruntime"]
    assert set(known["during"]) == {"other_processes", "stolen", "temperatures", "rise", "mhz", "throttled"}


def test_without_a_teacher_there_is_no_ratio(color_model: Path) -> None:
    found = compare([Candidate("colors", "fp32", color_model)], 16, threads=1, repeats=1, memory=False)
    assert found.speedup(found.rows[0]) is None
    assert found.shrink(found.rows[0]) is None


def test_ratios_to_both_teachers() -> None:
    def row(role: str, precision: str, size: int, *times: float, batch: int = 1) -> Row:
        candidate = Candidate("net", precision, Path("x"), role=role)
        return Row(candidate, size, None, Latency(times, batch), None, "cpu")

    student = row("student", "int8", 10, 2.0, 4.0, 3.0)
    many = row("student", "int8", 10, 24.0, batch=8)
    rows = (student, many, row("teacher", "fp32", 400, 60.0), row("teacher", "int8", 100, 15.0))
    found = Comparison(rows, {})
    assert (found.speedup(student), found.speedup(student, "int8")) == (20.0, 5.0)
    assert (found.shrink(student), found.shrink(student, "int8")) == (40.0, 10.0)
    assert found.speedup(many) == 20.0  # by the image
    assert found.speedup(student, "fp16") is None


def test_a_file_that_fixes_its_images_is_timed_at_those(tmp_path: Path, color_model: Path) -> None:
    four = write_color_model(tmp_path / "four.onnx", batch=4)
    candidates = [Candidate("four", "fp32", four), Candidate("any", "fp32", color_model)]
    found = compare(candidates, 16, threads=1, repeats=2)
    assert [row.latency.batch for row in found.rows] == [4, 1]
    assert all(row.peak_rss_mb and row.peak_rss_mb > 20 for row in found.rows)
    first = found.to_dict()["rows"][0]
    assert first["images_per_s"] == pytest.approx(4000 * 2 / sum(first["samples_ms"]))


def test_a_provider_that_is_not_there_is_refused(color_model: Path) -> None:
    with pytest.raises(ModelError, match="tensorrt"):
        compare([Candidate("colors", "fp32", color_model)], 16, 1, repeats=1, memory=False, provider="tensorrt")


def test_what_cannot_run_is_named(color_model: Path) -> None:
    with pytest.raises(ModelError, match=r"student\.onnx.*\(1, 3, 32, 32\)"):
        compare([Candidate("colors", "fp32", color_model)], 32, threads=1, memory=False)


def test_conditions_name_the_machine() -> None:
    known = conditions()
    assert known["cpu"]
    assert known["cores_usable"] >= 1
    assert known["cores_cgroup"] is None or known["cores_cgroup"] > 0
    assert known["memory"]["total_mb"] >= known["memory"]["available_mb"] > 0
    assert {"python", "kdedge", "onnxruntime", "numpy"} <= set(known["versions"])
    json.dumps(known, allow_nan=False)
