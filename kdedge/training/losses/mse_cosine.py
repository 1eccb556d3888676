"""Mean squared error and cosine distance together: the default."""

from torch import Tensor

from kdedge.training.losses.cosine import cosine
from kdedge.training.losses.mse import mse

__all__ = ["mse_cosine"]


def mse_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error plus twice the cosine distance of (B, D): length and direction."""
    return mse(predicted, target) + 2.0 * cosine(predicted, target)
