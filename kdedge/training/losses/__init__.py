"""Losses between a student's predictions and the teacher's targets, both (B, D) float; each returns a scalar.

One file a loss, with its source. A new one is a function of (predicted, target) with a name in :data:`LOSSES`.
"""

from collections.abc import Callable

from torch import Tensor

from kdedge.errors import RunError
from kdedge.training.losses.bce import bce
from kdedge.training.losses.cosine import cosine
from kdedge.training.losses.mse import mse
from kdedge.training.losses.mse_cosine import mse_cosine
from kdedge.training.losses.relational import mse_relational, relational
from kdedge.training.losses.smooth_l1_cosine import smooth_l1_cosine
from kdedge.training.losses.srd import srd

__all__ = [
    "LOSSES",
    "NORMALISED",
    "Loss",
    "bce",
    "cosine",
    "loss_named",
    "mse",
    "mse_cosine",
    "mse_relational",
    "relational",
    "smooth_l1_cosine",
    "srd",
]

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "mse": mse,
    "cosine": cosine,
    "mse+cosine": mse_cosine,
    "smoothl1+cosine": smooth_l1_cosine,
    "bce": bce,
    "srd": srd,
    "mse+relational": mse_relational,
}

NORMALISED = frozenset({"srd"})
"""Names of the losses that want a projector that ends in a batch normalisation."""


def loss_named(name: str) -> Loss:
    """Look a loss up; RunError lists the names if there is none."""
    if name not in LOSSES:
        raise RunError(f"unknown loss {name!r}; choose one of {', '.join(LOSSES)}.")
    return LOSSES[name]
