"""Mean squared error: the paper's regression."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["mse"]


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over (B, D) (the paper's regression, S9); on targets of unit variance it is 1 - R2."""
    return F.mse_loss(predicted, target)
