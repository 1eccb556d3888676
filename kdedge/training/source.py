"""Where a supervised training takes its batches from: views made as they are needed, or a bank's."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.training.activations import ViewBank
from kdedge.training.augment import Augment
from kdedge.training.make_views import make_views

__all__ = ["BankSource", "Source", "ViewSource"]


class Source(Protocol):
    """Numbered items of which an epoch shows one view each."""

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """Items (B,) to RGB images (B, S, S, 3), uint8."""
        ...


@dataclass(frozen=True)
class ViewSource:
    """Images (N, S, S, 3), uint8; every epoch shows another view of each, the same one on every run.

    Attributes:
        augment: None shows the images themselves.
    """

    images: NDArray[np.uint8]
    augment: Augment | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """See :class:`Source`."""
        if self.augment is None:
            return np.asarray(self.images[indices])
        pixels = torch.from_numpy(self.images[indices]).permute(0, 3, 1, 2)
        views = make_views(pixels, indices, np.full(len(indices), epoch + 1), self.augment, self.seed)
        return views.permute(0, 2, 3, 1).contiguous().numpy()


@dataclass(frozen=True)
class BankSource:
    """Chosen rows of a view bank, whose teacher activations are known; every epoch shows the same views."""

    bank: ViewBank
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:  # noqa: ARG002
        """See :class:`Source`."""
        return np.asarray(self.bank.views[self.rows[indices]])
