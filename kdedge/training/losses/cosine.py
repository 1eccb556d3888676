"""Cosine distance: direction without length."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cosine"]


def cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """One minus the mean cosine of the rows of (B, D): direction only, length is free; a zero row counts as 1."""
    return 1.0 - F.cosine_similarity(predicted, target, dim=1).mean()
