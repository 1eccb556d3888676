import json
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
from kdedge.errors import ExportError, RunError
from kdedge.export import recipe
from kdedge.export.fusion import FusionReport

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(export)


@pytest.fixture
def run(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    checkpoint = tmp_path / "best.safetensors"
    checkpoint.write_bytes(b"weights")
    loaded = SimpleNamespace(
        path=tmp_path,
        card=card,
        student=small,
        calibration=[Path(str(number)) for number in range(20)],
        heldout=[Path(str(number)) for number in range(40, 60)],
        checkpoint=checkpoint,
    )
    monkeypatch.setattr(recipe, "load_run", lambda _: loaded)
    monkeypatch.setattr(recipe, "decode", lambda path: pictures[int(str(path))])
    return tmp_path


def _invoke(*arguments: str | Path) -> Any:
    return RUNNER.invoke(APP, [str(argument) for argument in arguments])


def test_prints_what_was_made(run: Path) -> None:
    result = _invoke(run, "--int8", "--calibration", "minmax")
    assert result.exit_code == 0, result.output
    for text in ("student.onnx", "student.int8.onnx", "3 of 3 convolutions run in int8", "top-1 agreement", "MB"):
        assert text in result.stdout
    assert f"kdedge classify IMAGE --model {run / 'student.int8.onnx'}" in result.stdout


def test_json_is_json(run: Path) -> None:
    result = _invoke(run, "--fp32-only", "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["int8"] is None
    assert value["fp32"]["bytes"] == (run / "student.onnx").stat().st_size
    assert not (run / "student.int8.onnx").exists()


def test_float_layers_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "int8_share", lambda _: FusionReport(4, 2, 1, 1, ("stem", "tail")))
    result = _invoke(run, "--calibration", "minmax")
    assert result.exit_code == 0, result.output
    assert "only 50% of the convolutions run in int8" in result.stderr
    assert "stem, tail" in result.stderr


def test_mistakes_are_kdedge_errors(run: Path) -> None:
    assert isinstance(_invoke(run, "--target", "jetson").exception, ExportError)
    assert isinstance(_invoke(run, "--calibration", "best").exception, ExportError)
    (run / "student.onnx").write_bytes(b"")
    assert isinstance(_invoke(run).exception, RunError)


def test_help_shows_examples() -> None:
    assert "kdedge export runs/first --int8" in _invoke("--help").output
