"""The network of pre-training: the student's trunk and the linear projector that imitates the teacher."""

from torch import Tensor, nn

__all__ = ["Regressor"]


class Regressor(nn.Module):
    """The trunk and a linear adapter (dim to D) that is thrown away after pre-training.

    With ``normalised`` the predictions pass a batch normalisation without affine, so that each dimension has mean 0 and
    variance 1 over the batch, as the targets have: the projector of Miles & Mikolajczyk (arXiv 2303.11098, section 3).
    Such a network must be trained with batches of at least two images.
    """

    def __init__(self, trunk: nn.Module, dim: int, targets: int, *, normalised: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.adapter = nn.Linear(dim, targets)
        self.norm: nn.Module = nn.BatchNorm1d(targets, affine=False) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to predicted standardised activations (B, D)."""
        predicted: Tensor = self.norm(self.adapter(self.trunk(x)))
        return predicted
