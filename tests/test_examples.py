"""Every script of examples/ runs, on small data."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
Run = Callable[..., str]


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> Run:
    """Run ``python examples/NAME.py ARGUMENTS`` and return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return str(capsys.readouterr().out)

    return run


def test_classify_folder(run_example: Run, color_model: Path, color_images: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    said = run_example("classify_folder", color_images, "--model", color_model)
    assert said.splitlines()[0].startswith("colors, as given: ")
    assert [line.split() for line in said.splitlines()[-3:]] == [["4", "blue"], ["4", "green"], ["4", "red"]]
    said = run_example("classify_folder", tmp_path, "--model", color_model)
    assert "left out: " in said


def test_compare_models(run_example: Run, color_model: Path) -> None:
    said = run_example("compare_models", color_model, color_model, "--size", 16, "--repeats", 3)
    assert said.count("p50") == 2


@pytest.mark.slow
def test_distill_then_export(run_example: Run, color_images: Path, tmp_path: Path) -> None:
    networks = ("--teacher", "torchvision/resnet18", "--teacher-weights", "random")
    networks += ("--student", "timm/resnet10t", "--student-weights", "random")
    out = tmp_path / "runs/own"
    said = run_example("distill_own_images", color_images, *networks, "--size", 32, "--steps", 2, "--out", out)
    assert said.splitlines()[-1] == str(out / "student.int8.onnx")
    assert "Validation accuracy" in said
    said = run_example("export_and_check", out, "--agreement", 0)
    assert "of the convolutions in int8" in said
    with pytest.raises(SystemExit, match="below 110%"):
        run_example("export_and_check", out, "--agreement", 1.1)


def test_examples_are_short_and_all_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}"' in text, path
        assert len(path.read_text(encoding="utf-8").splitlines()) < 45, path
