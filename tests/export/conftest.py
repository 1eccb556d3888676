"""Small networks and images for the export tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.card import ModelCard
from kdedge.export.to_onnx import export_fp32
from kdedge.preprocess import Preprocess
from kdedge.training.batchnorm import reestimate

SIZE = 32
LABELS = ("ant", "bee", "cat", "dog")


class SmallNet(nn.Module):
    """Three convolutions, one of them depthwise, one residual, and a global mean without kept axes."""

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.point = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.point(self.depth(x)))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """Smooth random images, (60, SIZE, SIZE, 3)."""
    rough = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
    return np.ascontiguousarray(rough.repeat(SIZE // 4, 1).repeat(SIZE // 4, 2))


@pytest.fixture(scope="session")
def small(pictures: NDArray[np.uint8]) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = SmallNet()
    reestimate(model, [torch.from_numpy(Preprocess(SIZE).normalize(pictures[:30]))])
    return model


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return ModelCard("small", LABELS, Preprocess(SIZE), student="test/small", scores={"test_accuracy": 0.5})


@pytest.fixture(scope="session")
def small_onnx(small: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_fp32(small, SIZE, path)
    return path
