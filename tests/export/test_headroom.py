"""A dead channel must not overflow the accumulator."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from kdedge.export.headroom import LARGEST_BIAS
from kdedge.export.inference import onnx_outputs
from kdedge.export.quantize import quantize_int8
from kdedge.export.to_onnx import export_fp32
from kdedge.preprocess import Preprocess


class Dying(nn.Module):
    """Two convolutions; channel 0 of the first has weights next to nothing and a bias that a ReLU must cut off."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            self.first.weight[0] = -1e-9 * torch.rand(3, 3, 3)
            self.first.bias[0] = -3.0
            self.second.weight[:, 0] = 2.0  # whatever channel 0 wrongly gives is heard

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


def test_a_dead_channel_stays_dead(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    preprocess = Preprocess(32)
    export_fp32(Dying(), 32, tmp_path / "fp32.onnx")
    quantize_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images, preprocess, "minmax")

    reference = onnx_outputs(tmp_path / "fp32.onnx", images, preprocess).logits
    logits = onnx_outputs(tmp_path / "int8.onnx", images, preprocess).logits
    assert np.abs(logits - reference).max() < 0.05 * np.abs(reference).max()

    biases = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "int8.onnx").graph.initializer if t.data_type == 6]
    assert any(b.size == 8 for b in biases)
    assert all(np.abs(b.astype(np.int64)).max() <= LARGEST_BIAS for b in biases if b.size)
