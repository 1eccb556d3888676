"""Label distillation (the paper's S8): the student learns from the labels and from the teacher's class probabilities."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kdedge.errors import RunError
from kdedge.training.supervised import Criterion

__all__ = ["label_kd", "label_kd_loss"]


def label_kd_loss(logits: Tensor, labels: Tensor, teacher: Tensor, alpha: float, temperature: float) -> Tensor:
    """``alpha * CE(y, s) + (1 - alpha) * CE(softmax(t / T), softmax(s / T))`` (the paper's S8), mean over the batch.

    Hinton et al. (arXiv 1503.02531) multiply the second term by T squared; the paper does not, and uses T = 1.

    Args:
        logits: the student's, (B, C).
        labels: (B,), class numbers.
        teacher: the teacher's logits, (B, C).
    """
    soft = F.softmax(teacher / temperature, dim=1)
    imitation = -(soft * F.log_softmax(logits / temperature, dim=1)).sum(1).mean()
    return alpha * F.cross_entropy(logits, labels) + (1.0 - alpha) * imitation


def label_kd(teacher: NDArray[np.floating], alpha: float = 0.1, temperature: float = 1.0) -> Criterion:
    """The loss as a criterion of items whose teacher logits (N, C) were computed before.

    Raises:
        RunError: alpha outside 0-1 or a temperature that is not above 0.
    """
    if not 0 <= alpha <= 1 or temperature <= 0:
        raise RunError(f"alpha is {alpha} and the temperature {temperature}; expected 0 to 1, and above 0.")
    known = torch.from_numpy(np.ascontiguousarray(teacher, np.float32))

    def loss(logits: Tensor, labels: Tensor, items: NDArray[np.int64]) -> Tensor:
        return label_kd_loss(logits, labels, known[torch.from_numpy(items)].to(logits.device), alpha, temperature)

    return loss
