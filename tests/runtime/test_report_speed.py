"""Timings in a report: those of this run's files, and never those of others."""

import json
import re
from pathlib import Path

from kdedge.runtime.run_reader import read_run
from tests.runtime.page import spoken
from tests.runtime.runs import write_run
from tests.runtime.test_report_run import page_of, plain_text

BENCH = {
    "rows": [
        {
            "model": "colors",
            "role": "student",
            "precision": "int8",
            "p50_ms": 1.0,
            "batch": 1,
            "cold_start": {"total_ms": 222.1},
            "energy": {"j_per_image": 0.0042},
        },
        {"model": "colors", "role": "student", "precision": "int8", "p50_ms": 9.0, "batch": 16},
        {"model": "torchvision/resnet50", "role": "teacher", "precision": "fp32", "bytes": 94_000_000, "p50_ms": 40.0},
        {"model": "torchvision/resnet50", "role": "teacher", "precision": "int8", "bytes": 24_000_000, "p50_ms": 10.0},
    ],
    "conditions": {"cpu": "A CPU", "threads": 2, "clocks": {}, "during": {"stolen": 0.489910399, "mhz": [None, None]}},
    "warnings": ["the machine was busy"],
    "stages": [{"image": "640x480", "p50_ms": {"decode": 1.83, "end to end": 6.88}}, "odd"],
}


def test_a_bench_of_these_files(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    size = (path / "student.int8.onnx").stat().st_size
    bench = json.loads(json.dumps(BENCH))
    bench["rows"][0]["bytes"] = bench["rows"][1]["bytes"] = size
    page = page_of(read_run(path), bench=bench)
    text = plain_text(page)
    assert "40× faster and" in text
    assert "than ResNet-50 in fp32" in text
    assert "against its int8: 10×" in text
    for words in ("the machine was busy.", "222 ms", "4.2 mJ", "640x4801.83 ms6.88 ms", "stolen 0.4899"):
        assert words in text
    assert "Median latency: Student, int8 1.00 ms; ResNet-50, int8 10.0 ms; ResNet-50, fp32 40.0 ms" in re.sub(
        "\u00a0", " ", spoken(page)
    )
    (path / "bench.json").write_text(json.dumps(bench))
    assert "40× faster and" in plain_text(page_of(read_run(path)))  # a bench in the run is taken by itself
    assert "Speed beside ResNet-50" not in page.text


def test_a_bench_of_other_files_is_not_taken_for_this_run(tmp_path: Path) -> None:
    bench = json.loads(json.dumps(BENCH))
    bench["rows"][0]["bytes"] = 5
    page = page_of(read_run(write_run(tmp_path / "run")), bench=bench)
    assert "are not the files of this run" in page.text
    assert "faster" not in page.heads[0]
    assert "Student, int8 1.00" not in re.sub("\u00a0", " ", spoken(page))
