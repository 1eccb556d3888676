"""Images of tar shards as an array: of a few shards at a time, from decoded pixels on disk or from the shards themselves."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.data.shard_stream import read_shard
from kdedge.preprocess import Preprocess, decode
from kdedge.training.joined import as_rows

__all__ = ["OPEN", "Shard", "ShardedImages"]

OPEN = 6
"""Shards whose encoded images are in memory at once; an order that mixes more than these reads shards again and again."""


@dataclass(frozen=True)
class Shard:
    """A tar shard and what of it is used.

    Attributes:
        url: a local path or what webdataset opens.
        kept: positions of the images that are used, ascending; ``ids``: what the random numbers of their views depend on.
        pixels: file of their decoded pixels, uint8, (n, S, S, 3), if they are kept on disk.
    """

    url: str
    kept: NDArray[np.int64]
    ids: NDArray[np.int64]
    pixels: Path

    def __len__(self) -> int:
        return len(self.kept)


@dataclass(frozen=True)
class ShardedImages:
    """Images (N, S, S, 3), uint8, RGB, of shards one after another; reading is quick where rows lie in few shards."""

    shards: Sequence[Shard]
    fit: Preprocess
    _starts: NDArray[np.int64] = field(init=False, repr=False)
    _open: "OrderedDict[int, NDArray[np.uint8] | list[bytes]]" = field(
        init=False, repr=False, default_factory=OrderedDict
    )
    _pool: ThreadPoolExecutor = field(init=False, repr=False, default_factory=lambda: ThreadPoolExecutor(2))

    def __post_init__(self) -> None:
        sizes = [len(shard) for shard in self.shards]
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)"""
        return len(self), self.fit.size, self.fit.size, 3

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """An image (S, S, 3), or images (B, S, S, 3) by a slice, by numbers or by a mask."""
        flat, single = as_rows(rows, len(self))
        found = np.empty((len(flat), *self.shape[1:]), np.uint8)
        owner = np.searchsorted(self._starts, flat, "right") - 1
        for number in np.unique(owner).tolist():
            here = np.flatnonzero(owner == number)
            inside = flat[here] - self._starts[number]
            shard = self._shard(number)
            if isinstance(shard, list):
                images = self._pool.map(lambda data: self.fit.fit(decode(data)), [shard[i] for i in inside.tolist()])
                found[here] = np.stack(list(images))
            else:
                found[here] = shard[inside]
        return found[0] if single else found

    def _shard(self, number: int) -> "NDArray[np.uint8] | list[bytes]":
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self.shards[number]
        opened: NDArray[np.uint8] | list[bytes]
        if shard.pixels.is_file():
            opened = np.load(shard.pixels, mmap_mode="r")
        else:
            wanted = set(shard.kept.tolist())
            opened = [image.data for image in read_shard(shard.url) if image.position in wanted]
        self._open[number] = opened
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return opened
