"""``kdedge paper features`` from the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import kdedge.data.faces
from tests.paper.test_features import Finder, write_network, write_portraits

Run = Callable[..., SimpleNamespace]
AS_IS = ["--teacher-mean", "0,0,0", "--teacher-std", "1,1,1"]


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """``kdedge paper features WORDS`` in this process, in a folder with faces and a network."""
    monkeypatch.chdir(tmp_path)
    write_portraits(tmp_path / "faces", 5)
    write_portraits(tmp_path / "few", 2)
    write_network(tmp_path / "net.onnx")
    (tmp_path / "text").write_text("no detector")

    def run(*words: object) -> SimpleNamespace:
        from kdedge.cli import main

        monkeypatch.setattr(sys, "argv", ["kdedge", "paper", "features", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def test_the_whole_command(features: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    widths = []

    def finder(model: Path, *, min_width: float) -> Finder:
        widths.append((model, min_width))
        return Finder()

    monkeypatch.setattr(kdedge.data.faces, "FaceFinder", finder)
    words = ["--faces", "faces", "--teacher", "onnx:net.onnx", *AS_IS, "--detector", "text", "--out", "found"]
    done = features(*words, "--json", "--min-width", 30)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result == json.loads((tmp_path / "found/features.json").read_text())
    assert widths == [(Path("text"), 30.0)]
    assert (len(result["faces"]), result["teacher"], result["input"]["std"]) == (5, "onnx:net.onnx", [1.0, 1.0, 1.0])
    again = features(*words)
    assert again.code == 2
    assert "start anew with --overwrite" in again.err
    done = features(*words, "--overwrite", "--most", 4)
    assert done.code == 0, done.err
    assert done.out.startswith("# Activations of facial parts")
    assert "4 faces, 12 crops" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--faces", "absent", "--teacher", "onnx:net.onnx"], "absent: no such folder"),
        (["--faces", "few", "--teacher", "onnx:net.onnx"], "few: holds 2 image(s)"),
        (["--faces", "faces", "--teacher", "onnx:net.onnx"], "give --teacher-mean and --teacher-std"),
        (["--faces", "faces", "--teacher", "timm/resnet10"], "did you mean timm/resnet10t"),
        (
            ["--faces", "faces", "--teacher", "onnx:net.onnx", *AS_IS, "--teacher-weights", "f.pt"],
            "has its own weights",
        ),
        (["--faces", "faces", "--teacher", "onnx:net.onnx", *AS_IS, "--detector", "text"], "face detector"),
        (["--faces", "faces", "--teacher", "onnx:net.onnx", "--teacher-mean", "1,2"], "three numbers with commas"),
        (["--faces", "faces", "--teacher", "onnx:net.onnx", "--most", 2], "--most is 2"),
    ],
)
def test_mistakes(features: Run, tmp_path: Path, words: list[object], said: str) -> None:
    done = features(*words, "--out", "found")
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert said in line
    assert "Traceback" not in done.err
    assert not (tmp_path / "found").exists()
