"""Networks that int8 finds hard, each in a way that is known."""

import torch
from torch import nn

__all__ = ["Outlier", "Vanishing", "centred"]


def centred(network: nn.Module, last: nn.Module, images: torch.Tensor) -> nn.Module:
    """``network``, whose ``last`` layer is given a bias that makes the mean of the logits 0, so that images decide."""
    with torch.inference_mode():
        mean = network(images).mean(0)
    with torch.no_grad():
        last.bias -= mean
    return network


class Outlier(nn.Module):
    """The first of 16 channels between two convolutions is thousands of times larger than the others.

    The second convolution undoes it, so the float network is an ordinary one; 256 steps for all channels together leave
    nothing of the others.
    """

    def __init__(self, factor: float = 3000.0, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(32, classes)
        with torch.no_grad():
            for layer in (self.stem, self.first, self.second, self.third):
                layer[0].weight *= 3.0  # so that images differ by the time they reach the head
            self.head.weight *= 10.0
            self.first[0].weight[0] *= factor
            self.first[0].bias[0] *= factor
            self.second[0].weight[:, 0] /= factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.third(self.second(self.first(self.stem(x))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


class Vanishing(nn.Module):
    """Most weights of the second convolution are less than half a step of int8 and vanish, all to the same side."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU())
        self.second = nn.Conv2d(64, classes, 1)
        with torch.no_grad():
            self.stem[0].weight.mul_(0.05)
            self.stem[0].bias.fill_(1.0)  # all inputs of the second layer are near 1, whatever the image
            self.second.weight.fill_(0.003)
            for channel in range(classes):
                self.second.weight[channel, :4] = torch.randn(4, 1, 1)
                self.second.weight[channel, 0] = 1.0
                self.second.weight[channel, 4:] *= channel / 1.5 - 1  # so that each class loses another amount

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.second(self.stem(x)).mean((2, 3))
        return logits
