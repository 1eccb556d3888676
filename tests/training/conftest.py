"""Small images, teachers and networks for the training tests."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.data.faces import encode_png
from kdedge.preprocess import Preprocess
from kdedge.training.loop import LoopConfig
from kdedge.training.students import Student

SIZE = 16
DIM = 6


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


class Tiny(nn.Module):
    """A trunk of two convolutions with BatchNorm: (B, 3, S, S) to (B, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.layers(x).mean((2, 3))
        return embedding


def tiny_student(classes: int = 3) -> Student:
    return Student(Tiny(), 8, classes)


def pictures(count: int, size: int = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random images, uint8 (count, size, size, 3)."""
    rough = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.ascontiguousarray(rough.repeat(size // 4, 1).repeat(size // 4, 2))


def teacher_graph(seed: int = 0, size: int | str = SIZE) -> onnx.ModelProto:
    """A convolution ``maps``, its ReLU ``active``, the mean ``pooled`` and, last, ``embedding`` (B, DIM)."""
    rng = np.random.default_rng(seed)
    tensors = {
        "kernel": rng.normal(0, 0.3, (8, 3, 4, 4)).astype(np.float32),
        "weight": rng.normal(0, 1, (8, DIM)).astype(np.float32),
        "bias": rng.normal(0, 1, DIM).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["maps"], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(value, key) for key, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_teacher(path: Path, seed: int = 0, preprocess: Preprocess | None = None, size: int | str = SIZE) -> Path:
    """Write :func:`teacher_graph`, with a card if there is a preprocessing."""
    model = teacher_graph(seed, size)
    if preprocess:
        helper.set_model_props(model, {METADATA_KEY: ModelCard("teacher", (), preprocess).to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


PREPROCESS = Preprocess(SIZE, (127.5, 127.5, 127.5), (64.0, 64.0, 64.0))


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX teacher of 16 pixel images that says how they are prepared."""
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.onnx", preprocess=PREPROCESS)


class Stop(Exception):
    """In the place of a killed process."""


def stop_at(step: int, total: int) -> Callable[[str], AbstractContextManager[Callable[[int, int], None]]]:
    """Progress bars, of which the one with ``total`` steps raises :class:`Stop` at one of them."""

    @contextmanager
    def bar(title: str) -> Iterator[Callable[[int, int], None]]:
        def advance(done: int, count: int, note: str = "") -> None:
            if (done, count) == (step, total):
                raise Stop

        yield advance

    return bar


@contextmanager
def eager_checkpoints(place: str) -> Iterator[None]:
    """A checkpoint after every step of trainings that take :class:`LoopConfig` from ``place``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, lambda *given, **named: LoopConfig(*given, **named, save_every=0.0))
        yield


WritePictures = Callable[..., list[Path]]


@pytest.fixture
def write_pictures(tmp_path: Path) -> WritePictures:
    """Write ``count`` different small PNG images below a folder of ``tmp_path``; other seeds give other images."""

    def write(folder: str, count: int, seed: int = 0, size: int = SIZE) -> list[Path]:
        home = tmp_path / folder
        home.mkdir(parents=True, exist_ok=True)
        paths = [home / f"{number:04d}.png" for number in range(count)]
        for path, image in zip(paths, pictures(count, size, seed), strict=True):
            path.write_bytes(encode_png(image))
        return paths

    return write
