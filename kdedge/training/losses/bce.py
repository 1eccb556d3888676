"""Binary cross entropy on soft concepts."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bce"]


def bce(predicted: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy on soft concepts (the paper's S10): predictions (B, D) are logits, concepts are sigmoid(target)."""
    return F.binary_cross_entropy_with_logits(predicted, torch.sigmoid(target))
