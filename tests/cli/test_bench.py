"""``kdedge bench`` from the outside; named networks are tested with the export."""

import json
from pathlib import Path

from tests.conftest import color_card, write_color_model


def test_a_model_and_its_sibling(run_kdedge, tmp_path: Path) -> None:
    run = tmp_path / "runs/first"
    write_color_model(run / "student.onnx")
    write_color_model(run / "student.int8.onnx", color_card(precision="int8"))
    out = tmp_path / "bench.json"
    done = run_kdedge("bench", run, "--teacher", "none", "--repeats", 3, "--threads", 1, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value == json.loads(out.read_text())
    assert [row["precision"] for row in value["rows"]] == ["fp32", "int8"]
    for row in value["rows"]:
        assert row["model"] == "colors"
        assert {"p50_ms", "p90_ms", "p99_ms", "bytes", "peak_rss_mb", "images_per_s"} <= set(row)
    assert value["conditions"]["size"] == 16
    assert value["conditions"]["threads"] == 1


def test_table(run_kdedge, color_model: Path) -> None:
    done = run_kdedge("bench", color_model, "--teacher", "none", "--repeats", 1, "--threads", 1)
    head, row = done.stdout.splitlines()[:2]
    assert head.split()[:3] == ["model", "precision", "MB"]
    assert row.split()[:2] == ["colors", "fp32"]


def test_mistakes(run_kdedge, color_model: Path) -> None:
    for arguments in (
        [color_model, "--student", "timm/mobilenetv4_conv_small"],
        [color_model, "--size", 224, "--teacher", "none"],
        ["absent", "--teacher", "none"],
    ):
        done = run_kdedge("bench", *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")
