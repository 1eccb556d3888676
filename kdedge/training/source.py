"""Where a supervised training takes its batches from: views made as they are needed, or a bank's."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kdedge.training.activations import ViewBank
from kdedge.training.augment import Augment, make_view, one_thread

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
        transform = self.augment.transform()
        with one_thread():
            views = [make_view(self.images[i], transform, i, epoch + 1, self.seed) for i in indices.tolist()]
        return np.stack(views)


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
