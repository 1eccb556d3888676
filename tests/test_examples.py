"""Every script of examples/ runs, on small data."""

import pickle
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdedge.training.generator_file import GeneratorInput, load_generator

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
    assert said.splitlines()[-1] in (str(out / "student.int8.onnx"), str(out / "student.onnx"))  # as its guard decides
    assert "Validation accuracy" in said
    said = run_example("export_and_check", out, "--max-drop", 100, "--min-speedup", 0)
    assert "100% of the convolutions in int8" in said
    with pytest.raises(SystemExit, match="at most -1 are allowed: give more training images"):
        run_example("export_and_check", out, "--max-drop", -1, "--min-speedup", 0)


class StandIn(torch.nn.Module):
    """Has the attributes and the call of a StyleGAN2-ADA generator: mapping, truncation, noise, fused modulation."""

    z_dim, c_dim = 8, 0

    def __init__(self) -> None:
        super().__init__()
        self.mapping, self.synthesis = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3 * 16 * 16)
        self.register_buffer("w_avg", torch.full((8,), 0.1))

    def forward(self, z, c, truncation_psi=1, noise_mode="random", force_fp32=False, fused_modconv=None):
        w = self.w_avg.lerp(self.mapping(torch.cat([z, c], 1)), truncation_psi)
        pixels = self.synthesis(w).reshape(-1, 3, 16, 16).tanh()
        if noise_mode == "random":
            pixels = pixels + torch.randn(len(z), 1, 16, 16)
        return pixels if fused_modconv is False and force_fp32 else pixels[: len(z)]


def test_export_stylegan2_ada(run_example: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = StandIn()
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"G_ema": network}))
    assert "wrote" in run_example("export_stylegan2_ada", tmp_path / "net.pkl", tmp_path / "net.pt")
    images, _ = load_generator(tmp_path / "net.pt", GeneratorInput(latent=(8,), truncation=0.5))
    z = torch.from_numpy(np.random.RandomState(7).randn(1, 8)).float()
    with torch.inference_mode():
        wanted = network(z, torch.zeros(1, 0), 0.5, "const")[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(images([7])[0], (wanted + 1) * 127.5, atol=0.51)


def test_examples_are_short_and_all_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}"' in text, path
        assert len(path.read_text(encoding="utf-8").splitlines()) < 45, path
