"""Small things that many tests need: a classifier of colours and images of plain colours."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.preprocess import Preprocess

COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
SIZE = 16


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the caches of whoever runs it."""
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "kdedge-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "kdedge-data"))
    monkeypatch.delenv("KDEDGE_GALLERY", raising=False)
    monkeypatch.delenv("KDEDGE_MODEL", raising=False)
    monkeypatch.delenv("KDEDGE_MAX_PIXELS", raising=False)
    cv2.setNumThreads(1)


def color_card(**changes: object) -> ModelCard:
    """The card of the classifier that :func:`write_color_model` writes."""
    plain = Preprocess(SIZE, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    return ModelCard("colors", tuple(COLORS), plain, student="test/colors", parameters=12).with_(**changes)


def write_color_model(path: Path, card: ModelCard | None = None, gain: float = 4.0, batch: str | int = "batch") -> Path:
    """Global average pooling and a matrix that tells blue, green and red images apart."""
    import onnx
    from onnx import TensorProto, helper

    card = card or color_card()
    weights = gain * np.eye(3, dtype=np.float32)[::-1]  # logits: blue, green, red; channels: RGB
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, (3, 3), weights.ravel()),
            helper.make_tensor("bias", TensorProto.FLOAT, (3,), np.zeros(3, np.float32)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def color_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX classifier of blue, green and red images of 16 pixels, with its card."""
    return write_color_model(tmp_path_factory.mktemp("color") / "student.onnx")


@pytest.fixture(scope="session")
def color_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders blue, green and red with four noisy 24x20 PNG images each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (root / name).mkdir()
        for number in range(4):
            rgb = np.clip(np.asarray(color) + rng.integers(-40, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(root / name / f"{number}.png"), rgb[..., ::-1])
    return root


@pytest.fixture
def run_kdedge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``kdedge ARGUMENTS`` in a process of its own, in an empty folder."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        folder = cwd or tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        words = [sys.executable, "-m", "kdedge", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment(), check=False)

    return run


def environment() -> dict[str, str]:
    """The environment of a process that imports kdedge from this checkout."""
    import os

    root = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
