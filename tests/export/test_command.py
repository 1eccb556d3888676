import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from kdedge.card import ModelCard
from kdedge.cli.export import export
from kdedge.errors import ExportError, KdedgeError, RunError
from kdedge.export import int8, sources
from kdedge.export.fusion import FusionReport
from kdedge.export.graph import read_card
from kdedge.export.speed import Speed

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(export)


@pytest.fixture
def run(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(int8, "speedup", lambda *_: Speed(2.5, 2.5, 1.0, 1))
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint = folder / "best.safetensors"
    checkpoint.write_bytes(b"weights")
    loaded = SimpleNamespace(
        path=folder,
        card=card,
        student=small,
        calibration=[Path(str(number)) for number in range(20)],
        calibration_labels=[-1] * 20,
        heldout=[Path(str(number)) for number in range(40, 60)],
        heldout_labels=[-1] * 20,
        checkpoint=checkpoint,
    )
    monkeypatch.setattr(sources, "load_run", lambda _: loaded)
    for module in ("kdedge.export.sources", "kdedge.export.pictures"):
        monkeypatch.setattr(f"{module}.decode", lambda path: pictures[int(str(path))])
    return folder


def _invoke(*arguments: object) -> Any:
    return RUNNER.invoke(APP, [str(argument) for argument in arguments])


def test_prints_what_was_made(run: Path) -> None:
    result = _invoke(run, "--int8", "--target", "x86")
    assert result.exit_code == 0, result.output
    for text in (
        "student.onnx",
        "student.int8.onnx",
        "3 of 3 convolutions and 1 of 1 linear layers in int8",
        "top-1 agreement",
        "2.50 times as fast (1.00 ms a run)",
        "calibration on 20 images",
        "rules of target x86 hold",
    ):
        assert text in result.stdout
    table = re.findall(
        r"^  (minmax|average|percentile|entropy|mse) +([\d.e-]+) +[\d.]+% +[\d.]+(  chosen)?$", result.stdout, re.M
    )
    assert [row[0] for row in table] == ["minmax", "average", "percentile", "entropy", "mse"]
    assert [row[0] for row in table if row[2]] == [min(table, key=lambda row: float(row[1]))[0]]
    assert f"kdedge classify IMAGE --model {run / 'student.int8.onnx'}" in result.stdout
    assert "20 calibration images are few; 32 or more" in result.stderr
    assert "20 held-out images only: one of them is 5.0 points" in result.stderr
    again = _invoke(run, "--target", "x86", "--overwrite", "--calibration", "minmax")
    assert "calibration on 20 images (from the cache), minmax" in again.stdout


def test_json_is_json(run: Path) -> None:
    result = _invoke(run, "--fp32-only", "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["int8"] is None
    assert value["fp32"]["bytes"] == (run / "student.onnx").stat().st_size
    assert not (run / "student.int8.onnx").exists()


def test_a_device_is_told_by_its_options(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "device" / "a.onnx"
    words = ["--target", "jetson", "--float16", "--calibration", "minmax", "--opset", 18, "--batch", 2, "--out", out]
    result = _invoke(run, *words)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.parent.iterdir()} == {"a.onnx", "a.fp16.onnx", "a.fp32.onnx"}
    card = read_card(out)
    assert (card.target, card.input["batch"], card.provenance["opset"]) == ("jetson", 2, 18)
    assert f"copy {out} to the device" in result.stdout
    assert "TensorRT builds its engine" in result.stderr
    assert "the speed of target jetson cannot be measured on this machine" in result.stderr


def test_a_miss_is_said_and_ends_with_3(run: Path) -> None:
    result = _invoke(run, "--target", "auto", "--calibration", "minmax", "--min-speedup", 3)
    assert result.exit_code == 3
    assert "is 2.50 times as fast as fp32 here, 3 times is asked" in result.stdout
    assert "error: int8 was not written: the int8 file is 2.50 times" in result.stderr
    assert {path.name for path in run.iterdir()} == {"best.safetensors", "card.json", "student.onnx"}
    value = _invoke(run, "--calibration", "minmax", "--min-speedup", 3, "--overwrite", "--json")
    assert value.exit_code == 3
    assert "3 times is asked" in json.loads(value.stdout)["int8_missed"]


def test_float_layers_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = FusionReport(4, 2, 1, 1, ("stem", "tail"), {"stem": "its output goes to HardSigmoid"})
    monkeypatch.setattr(int8, "fusion_report", lambda *_: report)
    result = _invoke(run, "--target", "x86", "--calibration", "minmax")
    assert result.exit_code == 0, result.output
    assert "only 50% of the convolutions run in int8" in result.stderr
    assert "stem (its output goes to HardSigmoid), tail (float)" in result.stderr


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--target", "phone"], ExportError, "target 'phone' is not known"),
        (["--calibration", "best"], ExportError, "calibration 'best' is not known"),
        (["--target", "web", "--float16"], ExportError, "--float16 is for GPUs"),
        (["--target", "arm64", "--no-vnni"], ExportError, "VNNI is an instruction set of x86"),
        (["--out", "a.bin"], ExportError, "must end in .onnx"),
        (["--labels", "x.txt"], ExportError, "--labels belongs to --from FILE"),
        (["--from", "x.onnx"], ExportError, "one of the two"),
    ],
)
def test_mistakes_are_kdedge_errors(words: list[str], kind: type[KdedgeError], said: str, run: Path) -> None:
    result = _invoke(run, *words)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)
    assert {path.name for path in run.iterdir()} == {"best.safetensors"}


def test_an_existing_file_is_refused(run: Path) -> None:
    (run / "student.onnx").write_bytes(b"")
    assert isinstance(_invoke(run, "--target", "x86").exception, RunError)


def test_help_shows_examples() -> None:
    said = _invoke("--help").output
    assert "kdedge export runs/first --int8" in said
    assert "kdedge export --from model.onnx" in said


@pytest.mark.parametrize(
    "words",
    [
        ["--max-drop", "nan"],
        ["--max-drop", -1],
        ["--max-drop", 500],
        ["--min-agreement", 5],
        ["--min-speedup", -3],
        ["--min-speedup", "inf"],
        ["--search-minutes", -1],
    ],
)
def test_limits_that_make_no_sense_are_refused_at_once(words: list[object], run: Path) -> None:
    result = _invoke(run, *words)
    assert isinstance(result.exception, ExportError)
    assert re.match(rf"{words[0]} is .*; give a number from 0 to", str(result.exception))
    assert {path.name for path in run.iterdir()} == {"best.safetensors"}


def test_a_network_that_hardly_runs_in_int8_is_spoken_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the target, and with the advice that fits: these layers were left in float by the limits."""
    report = FusionReport(4, 1, 1, 1, ("a", "b", "c"), {})
    monkeypatch.setattr(int8, "fusion_report", lambda *_: report)
    real = int8.guard

    def left(*words: Any, **named: Any) -> Any:
        found = real(*words, **named)
        return replace(found, taken=replace(found.taken, left_float=("a", "b")))

    monkeypatch.setattr(int8, "guard", left)
    result = _invoke(run, "--target", "jetson", "--calibration", "minmax")
    assert "only 25% of the convolutions run in int8" in result.stderr
    assert "2 of them to stay within the limits: a longer training" in result.stderr
