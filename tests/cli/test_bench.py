"""``kdedge bench`` from the outside; networks made by name are tested with the export."""

import json
from pathlib import Path

import pytest

from tests.conftest import color_card, write_color_model

QUICK = ("--repeats", 3, "--threads", 1, "--processes", 1)


def test_a_model_its_sibling_and_a_teacher_made_elsewhere(run_kdedge, tmp_path: Path, color_images: Path) -> None:
    run = tmp_path / "runs/first"
    write_color_model(run / "student.onnx")
    write_color_model(run / "student.int8.onnx", color_card(precision="int8"))
    teacher = write_color_model(tmp_path / "teacher.onnx")
    out, page = tmp_path / "bench.json", tmp_path / "bench.md"
    image = color_images / "red/0.png"
    done = run_kdedge(
        *("bench", run, *QUICK, "--teacher-fp32", teacher, "--image", image, "--batches", 2, "--threads-sweep", 1),
        *("--json", "--out", out, "--markdown", page),
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value == json.loads(out.read_text())
    assert [(row["model"], row["precision"]) for row in value["rows"]] == [
        ("colors", "fp32"),
        ("colors", "int8"),
        ("torchvision/resnet50", "fp32"),
    ]
    for row in value["rows"]:
        assert {"p50_ms", "p90_ms", "p99_ms", "bytes", "peak_rss_mb", "images_per_s", "times_faster"} <= set(row)
        assert row["cold_start"]["samples"]
    assert value["conditions"]["size"] == 16
    assert value["conditions"]["threads"] == 1
    assert [each["image"] for each in value["stages"]] == ["0.png"]
    assert {cell["batch"] for cell in value["sweep"]} == {2}
    assert page.read_text().startswith("# colors on this machine\n")

    done = run_kdedge("bench", "--compare", out, out)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["colors", "colors", "torchvision/resnet50"]


def test_table(run_kdedge, color_model: Path) -> None:
    done = run_kdedge("bench", color_model, "--teacher", "none", "--brief", *QUICK)
    head, row = done.stdout.splitlines()[:2]
    assert head.split()[:3] == ["model", "precision", "MB"]
    assert row.split()[:2] == ["colors", "fp32"]
    assert "Cold start" not in done.stdout
    assert "Energy" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--student", "timm/mobilenetv4_conv_small"], "not both"),
        (["--size", 224, "--teacher", "none"], "this model takes 16 pixels"),
        (["--provider", "npu"], "'npu' is not known"),
        (["--provider", "tensorrt", "--teacher", "none", *QUICK], "no tensorrt"),
        (["--batches", "1,x"], "--batches is '1,x'"),
        (["--threads-sweep", "0"], "--threads-sweep is '0'"),
        (["--teacher-int8", "absent.onnx"], "absent.onnx: no such model file"),
        (["--teacher", "none", "--image", "absent.jpg"], "absent.jpg: no such image file"),
        (["--compare", "absent.json", "absent.json"], "absent.json: cannot be read"),
    ],
)
def test_mistakes(run_kdedge, color_model: Path, words: list[object], said: str) -> None:
    done = run_kdedge("bench", color_model, *words)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
