"""``kdedge evaluate`` from the outside."""

import json
from pathlib import Path


def test_table(run_kdedge, color_model: Path, color_images: Path) -> None:
    done = run_kdedge("evaluate", color_model, color_images)
    assert done.returncode == 0, done.stderr
    assert "accuracy 1.0000 on 12 images" in done.stdout
    assert "confusion matrix" in done.stdout
    assert "\n1  blue    4   0   0\n2  green   0   4   0\n3  red     0   0   4\n" in done.stdout
    for name in ("blue", "green", "red", "micro", "macro"):
        assert f"\n{name} " in done.stdout


def test_json(run_kdedge, color_model: Path, color_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    done = run_kdedge("evaluate", color_images, "--model", color_model, "--json", "--out", out)
    value = json.loads(done.stdout)
    assert value == json.loads(out.read_text())
    assert value["accuracy"] == value["macro"]["f1"] == 1.0
    assert value["images"] == 12
    assert value["unreadable"] == []
    assert [score["name"] for score in value["classes"]] == ["blue", "green", "red"]


def test_mistakes(run_kdedge, color_model: Path, color_images: Path) -> None:
    for arguments in (
        [color_model, color_images / "red"],
        [color_model, color_images, "more"],
        [color_model, "absent"],
    ):
        done = run_kdedge("evaluate", *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")
