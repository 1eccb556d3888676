"""LogSum distance between batch-normalised features: "simple recipe distillation"."""

import torch
from torch import Tensor

__all__ = ["batch_normalised", "srd"]

ALPHA = 4.0
"""Exponent of a difference: the larger, the more the worst dimensions count; the paper's own code uses 4."""

EPSILON = 1e-5
"""Added to a variance before its root is taken, as in BatchNorm."""

FLOOR = 1e-8
"""Added to the sum, so that the logarithm of a perfect prediction, and its gradient, stay finite."""


def srd(predicted: Tensor, target: Tensor) -> Tensor:
    """``log sum |z_s - z_t|^4`` over all of (B, D), Miles & Mikolajczyk (arXiv 2303.11098, section 3).

    Both sides are normalised over the batch without affine (z), so shift and scale of each dimension are free: let the
    projector itself end in such a normalisation (``Regressor(..., normalised=True)``), or predictions have the wrong scale
    once training is over. The logarithm lets the few largest differences dominate, softly. May be negative.
    """
    gap = batch_normalised(predicted) - batch_normalised(target)
    return torch.log(gap.abs().pow(ALPHA).sum() + FLOOR)


def batch_normalised(features: Tensor) -> Tensor:
    """Each dimension of (B, D) with mean 0 and variance 1 over the batch; one that does not vary becomes 0."""
    centred = features - features.mean(0)
    return centred * torch.rsqrt(centred.square().mean(0) + EPSILON)
