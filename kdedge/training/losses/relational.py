"""Distances within the batch: images that are neighbours for the teacher are to be neighbours for the student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdedge.training.losses.mse import mse

__all__ = ["mse_relational", "relational"]

WEIGHT = 25.0
"""Of the relational term beside another one: what comparisons use beside a task loss (Tian et al., arXiv 1910.10699)."""

FLOOR = 1e-12
"""The least mean distance that is divided by: of a batch whose rows are all the same."""


def relational(predicted: Tensor, target: Tensor) -> Tensor:
    """Distance-wise relational distillation, RKD-D of Park et al. (arXiv 1904.05068, section 3.2.1).

    The Euclidean distances of all pairs of rows of (B, D), divided by their mean, are compared by a Huber loss. Shift,
    rotation and scale of the whole batch are free, and both sides may differ in D. 0 for a batch of one image.
    """
    rows = len(predicted)
    gap = F.smooth_l1_loss(_relative_distances(predicted), _relative_distances(target), reduction="sum")
    return gap / max(1, rows * (rows - 1))


def mse_relational(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error plus 25 x :func:`relational`: each activation, and what lies near what."""
    return mse(predicted, target) + WEIGHT * relational(predicted, target)


def _relative_distances(features: Tensor) -> Tensor:
    """(B, D) to the distances of all ordered pairs, (B, B), whose mean without the diagonal is 1."""
    rows = len(features)
    # not by way of a matrix product, whose cancellation makes distances of near rows, and their gradients, noise
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / max(1, rows * (rows - 1))
    return distances / mean.clamp_min(FLOOR)
