"""Inception-V3's auxiliary classifier: a second head half way up, there while the network trains from labels and gone after."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.inception import Inception3, InceptionAux

from kdedge.training.students import Student

__all__ = ["AUXILIARY_WEIGHT", "LEAST_INPUT", "AuxiliaryStudent", "has_auxiliary"]

AUXILIARY_WEIGHT = 0.4  # of its loss beside the other's, as in torchvision's own training of this network
LEAST_INPUT = 299  # pixels; with less, the map that the second head looks at is too small for its convolutions
HIDDEN = 768


def has_auxiliary(student: Student) -> bool:
    """Whether the network is one that has a second head."""
    return isinstance(student.trunk, Inception3)


class AuxiliaryStudent(Student):
    """A student and its second head (Szegedy et al., arXiv 1512.00567, section 4), which sees the output of ``Mixed_6e``."""

    def __init__(self, student: Student) -> None:
        super().__init__(student.trunk, student.dim, student.head.out_features, student.weights)
        self.head = student.head
        self.auxiliary = InceptionAux(HIDDEN, student.head.out_features)
        self.trunk.get_submodule("Mixed_6e").register_forward_hook(_remember)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), S at least 299, to the logits of both heads (B, C); in training mode only."""
        logits: Tensor = self(x)
        layer: Any = self.trunk.get_submodule("Mixed_6e")
        hidden, layer.remembered = layer.remembered, None
        return logits, self.auxiliary(hidden)

    def plain(self) -> Student:
        """The same network without its second head."""
        student = Student(self.trunk, self.dim, self.head.out_features, self.weights)
        student.head = self.head
        return student


def _remember(layer: nn.Module, _: tuple[torch.Tensor, ...], output: Tensor) -> None:
    """A plain function that stores on the layer it is called with: copies of the network have hooks of their own so."""
    kept: Any = layer
    kept.remembered = output if layer.training else None
