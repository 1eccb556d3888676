"""The paper's connector (S10): 2048 "concept" probabilities between the trunk and the classifier."""

import torch
from torch import Tensor, nn

from kdedge.errors import ModelError

__all__ = ["WithConnector", "with_connector"]


class WithConnector(nn.Module):
    """A trunk, a linear layer and a sigmoid: (B, 3, S, S) to concept probabilities (B, concepts), 0-1.

    Fine-tuned on labels in a teacher; the student of the BCE method imitates the probabilities (the paper's S10).

    Attributes:
        trunk: (B, 3, S, S) to (B, dim).
        connector: (B, dim) to concept logits (B, concepts).
    """

    def __init__(self, trunk: nn.Module, dim: int, concepts: int) -> None:
        super().__init__()
        if concepts < 1:
            raise ModelError(f"a connector of {concepts} concepts was asked for; at least 1 is needed.")
        self.trunk = trunk
        self.connector = nn.Linear(dim, concepts)

    def concept_logits(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, concepts), before the sigmoid; what ``BCEWithLogits`` is computed on."""
        logits: Tensor = self.connector(self.trunk(x))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to concept probabilities (B, concepts)."""
        return torch.sigmoid(self.concept_logits(x))


def with_connector(trunk: nn.Module, layer: nn.Linear) -> WithConnector:
    """A connector whose layer is there already: the one that a student predicted its teacher's concept logits with."""
    made = WithConnector(trunk, layer.in_features, layer.out_features)
    made.connector = layer
    return made
