"""In which order items are seen: a permutation an epoch that depends on the seed and the epoch's number alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import RunError

__all__ = ["Order"]

Indices = NDArray[np.int64]


@dataclass
class Order:
    """Batches by the number of the step, so that a resumed run goes on exactly where it was.

    Attributes:
        count: items in all; of this process alone with ``blocks``.
        batch: items of a step on all processes together.
        blocks: items that are cheap to read together (those of a tar shard), in all each item once. Blocks then come in
            random order, and items in random order within ``mixed`` of them; without, all items in random order.
        rank, world: this process and how many there are. Without ``blocks`` each takes its slice of the same global batch;
            with them each has items of its own.
    """

    count: int
    batch: int
    seed: int
    blocks: Sequence[Indices] | None = None
    mixed: int = 4
    rank: int = 0
    world: int = 1
    _epoch: int = field(default=-1, init=False, repr=False)
    _order: Indices = field(default_factory=lambda: np.empty(0, np.int64), init=False, repr=False)

    def __post_init__(self) -> None:
        self.batch = min(self.batch, self.count * (self.world if self.blocks is not None else 1))
        if self.batch < 1 or self.batch % self.world:
            raise RunError(
                f"a batch of {self.batch} items cannot be shared by {self.world} processes; "
                f"give --batch a multiple of {self.world} that the images suffice for."
            )
        if self.blocks is not None and sum(map(len, self.blocks)) != self.count:
            raise RunError(f"blocks hold {sum(map(len, self.blocks))} items; {self.count} were expected.")

    @property
    def local(self) -> int:
        """Items of a step on this process."""
        return self.batch // self.world

    @property
    def an_epoch(self) -> int:
        """Steps of an epoch; what does not fill a batch is left out, other items in each epoch."""
        size = self.local if self.blocks is not None else self.batch
        return max(1, self.count // size)

    def at(self, step: int) -> Indices:
        """The items (B,) of this process at a step, ascending, for reading from disk.

        A global batch is dealt out before it is sorted: sorted images come class by class, and a process that got the first
        half of them would normalise its batch by a few classes alone.
        """
        epoch, position = divmod(step, self.an_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = self._permutation(epoch), epoch
        if self.blocks is not None:
            return np.sort(self._order[position * self.local : (position + 1) * self.local])
        shared = self._order[position * self.batch : (position + 1) * self.batch]
        return np.sort(shared[self.rank :: self.world])

    def _permutation(self, epoch: int) -> Indices:
        rng = np.random.default_rng((self.seed, epoch))
        if self.blocks is None:
            return rng.permutation(self.count)
        shuffled = rng.permutation(len(self.blocks)).tolist()
        near = [shuffled[first : first + self.mixed] for first in range(0, len(shuffled), self.mixed)]
        return np.concatenate([rng.permutation(np.concatenate([self.blocks[b] for b in some])) for some in near])
