"""Losses between a student's prediction and the teacher's standardised activations, both (B, D)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdedge.errors import RunError

__all__ = ["LOSSES", "Loss", "loss_named"]

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error (the paper's regression, S9); on standardised targets it is 1 - R2 for an unbiased student."""
    return F.mse_loss(predicted, target)


def cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """One minus the mean cosine: direction only, length is free."""
    return 1.0 - F.cosine_similarity(predicted, target, dim=1).mean()


def mse_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error plus twice the cosine loss: length and direction."""
    return mse(predicted, target) + 2.0 * cosine(predicted, target)


def smooth_l1_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """0.1 x smooth L1 + 0.9 x cosine, the balance of RADIO (Ranzinger et al., arXiv 2312.06709, section 3.2)."""
    return 0.1 * F.smooth_l1_loss(predicted, target) + 0.9 * cosine(predicted, target)


def bce(predicted: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy on soft concepts (the paper's S10): predictions are logits, concepts are sigmoid(target)."""
    return F.binary_cross_entropy_with_logits(predicted, torch.sigmoid(target))


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "cosine": cosine,
    "mse+cosine": mse_cosine,
    "smoothl1+cosine": smooth_l1_cosine,
    "bce": bce,
}


def loss_named(name: str) -> Loss:
    """Look a loss up; RunError lists the names if there is none."""
    if name not in LOSSES:
        raise RunError(f"unknown loss {name!r}; choose one of {', '.join(LOSSES)}.")
    return LOSSES[name]
