"""ConvNet-9, the paper's compact student: nine convolutions, 2048-d penultimate layer (about 17.5 M weights)."""

import torch
from torch import nn

from kdedge.errors import ModelError

__all__ = ["ConvNet9"]

# (in, out, kernel, stride, padding), or "pool": the layer table of the paper's published code
LAYERS: tuple[tuple[int, int, int, int, int] | str, ...] = (
    (3, 32, 3, 1, 1),
    "pool",
    (32, 128, 3, 2, 1),
    (128, 64, 3, 2, 1),
    (64, 256, 3, 2, 1),
    "pool",
    (256, 128, 3, 2, 1),
    (128, 512, 3, 2, 1),
    (512, 1024, 2, 2, 1),
    "pool",
    (1024, 512, 3, 2, 1),
    (512, 2048, 3, 2, 1),
)


class ConvNet9(nn.Module):
    """Trunk: (B, 3, 224, 224) to (B, 2048). Convolution, BatchNorm and ReLU nine times; He-normal (fan-out) weights."""

    num_features = 2048

    def __init__(self, size: int = 224) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in LAYERS:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2))
                continue
            inputs, outputs, kernel, stride, padding = layer
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        if not 193 <= size <= 256:  # outside, the last map is empty or larger than 1x1
            raise ModelError(f"kdedge/convnet9 takes images of 193 to 256 pixels (the paper's 224), not {size}.")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, 2048)."""
        return torch.flatten(self.features(x), 1)
