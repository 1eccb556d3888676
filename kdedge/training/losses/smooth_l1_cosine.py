"""Smooth L1 and cosine distance: the feature loss of AM-RADIO."""

import torch.nn.functional as F
from torch import Tensor

from kdedge.training.losses.cosine import cosine

__all__ = ["smooth_l1_cosine"]


def smooth_l1_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """0.1 x smooth L1 + 0.9 x cosine over (B, D), the balance of RADIO (Ranzinger et al., arXiv 2312.06709, section 3.2)."""
    return 0.1 * F.smooth_l1_loss(predicted, target) + 0.9 * cosine(predicted, target)
