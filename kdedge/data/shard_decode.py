"""Decoding a shard at a time, and keeping count of what could not be read over many of them."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdedge.data.check import MAX_BAD
from kdedge.data.shard_stream import read_shard
from kdedge.errors import DataError
from kdedge.preprocess import Image, Preprocess, decode

__all__ = ["BadMember", "DecodedShard", "ShardReport", "ShardTally", "decode_shard", "image_id"]

BadMember = tuple[str, str]
"""What cannot be read (the key of an image, the name of a shard), and why."""

ENOUGH = 1000
"""Images after which the share of bad ones so far may stop the work."""

AHEAD = 64
BLOCK = 512


class DecodedShard(NamedTuple):
    """What :func:`decode_shard` read.

    Attributes:
        images: uint8 (N, size, size, 3), RGB, in the order of the shard.
        keys: the N images' keys.
        bad: the images that were skipped.
    """

    images: NDArray[np.uint8]
    keys: list[str]
    bad: list[BadMember]


def decode_shard(shard: str, preprocess: Preprocess, *, workers: int = 2) -> DecodedShard:
    """Decode all images of a shard and fit them to ``preprocess.size``; those that cannot be decoded are skipped.

    Memory: the decoded shard and a few encoded images. A shard is read whole or not at all: of a broken one even the
    images before the break are dropped, so that a second reading gives the same set.

    Raises:
        DataError: the shard is broken, see :func:`kdedge.data.shard_stream.read_shard`.
    """

    def work(data: bytes) -> Image | str:
        try:
            return preprocess.fit(decode(data))
        except DataError as error:
            return str(error).removeprefix("image: ").rstrip(".")

    images = np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)
    keys: list[str] = []
    bad: list[BadMember] = []

    def take(key: str, result: Image | str) -> None:
        if isinstance(result, str):
            bad.append((key, result))
            return
        if len(keys) == len(images):  # grown in place, as a list of images to stack would need the memory twice
            images.resize((len(images) + BLOCK, *images.shape[1:]), refcheck=False)
        images[len(keys)] = result
        keys.append(key)

    waiting: deque[tuple[str, Future[Image | str]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for image in read_shard(shard):
            waiting.append((image.key, pool.submit(work, image.data)))
            if len(waiting) > AHEAD:
                key, future = waiting.popleft()
                take(key, future.result())
        for key, future in waiting:
            take(key, future.result())
    images.resize((len(keys), *images.shape[1:]), refcheck=False)
    return DecodedShard(images, keys, bad)


def image_id(label: str, key: str) -> int:
    """A number of 63 bits that stays the image's own wherever the transfer set lies and in whatever order it is read.

    It is the first eight bytes, big-endian and without the lowest bit, of the SHA-256 of label, zero byte and key.

    Args:
        label: the shard's, from :func:`kdedge.data.shard_list.shard_labels`.
        key: the image's, :attr:`kdedge.data.shard_stream.ShardImage.key`.
    """
    text = f"{label}\0{key}".encode(errors="surrogateescape")  # names in a tar file may be no UTF-8
    return int.from_bytes(sha256(text).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class ShardReport:
    """What was read of a transfer set, and what was not.

    Attributes:
        shards: read whole.
        broken: the shards that were skipped.
        images: in the shards that were read whole, the bad ones included.
        bad: those of them that could not be decoded.
        examples: the first three bad ones, named ``SHARD: KEY``.
    """

    shards: int
    broken: tuple[BadMember, ...]
    images: int
    bad: int
    examples: tuple[BadMember, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "shards": self.shards,
            "broken": [{"shard": name, "reason": reason} for name, reason in self.broken],
            "images": self.images,
            "bad": self.bad,
            "examples": [{"image": name, "reason": reason} for name, reason in self.examples],
        }


class ShardTally:
    """Counts while a process goes through its shards once, and stops it when too many are bad.

    One broken shard is tolerated, or 5 % of them where that is more, but never all. Of the images up to 5 % are
    tolerated, judged after each shard from the thousandth image on, and by :meth:`report` at the end.

    Args:
        total: shards that the process will read.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._whole = 0
        self._broken: list[BadMember] = []
        self._images = 0
        self._bad = 0
        self._examples: list[BadMember] = []

    def whole(self, shard: str, read: int, bad: Sequence[BadMember]) -> None:
        """Count a shard with ``read`` good images and some bad ones; DataError if too many images are bad by now."""
        self._whole += 1
        self._images += read + len(bad)
        self._bad += len(bad)
        self._examples += [(f"{shard}: {key}", reason) for key, reason in bad[: 3 - len(self._examples)]]
        if self._images >= ENOUGH:
            self._refuse_bad_images()

    def broken(self, shard: str, error: DataError) -> None:
        """Count a shard that was skipped; DataError if those are too many by now."""
        self._broken.append((shard, str(error).removeprefix(f"{shard}: ")))
        count = len(self._broken)
        if count > max(1.0, MAX_BAD * self.total) or count == self.total:
            raise DataError(
                f"{count} of {self.total} shards cannot be read (one, or {MAX_BAD:.0%}, is tolerated, never all): "
                f"{_first_three(self._broken, count)}"
            ) from error

    def report(self) -> ShardReport:
        """The sum; DataError if more than 5 % of the images are bad, or there are no images."""
        self._refuse_bad_images()
        if not self._images:
            raise DataError(f"no images were found in {self.total} shard(s); members such as 000123.jpg were expected.")
        return ShardReport(self._whole, tuple(self._broken), self._images, self._bad, tuple(self._examples))

    def _refuse_bad_images(self) -> None:
        if self._bad > MAX_BAD * self._images:
            raise DataError(
                f"{self._bad} of {self._images} images cannot be decoded (up to {MAX_BAD:.0%} are tolerated): "
                f"{_first_three(self._examples, self._bad)} Remove or replace them."
            )


def _first_three(named: Sequence[BadMember], count: int) -> str:
    text = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in named[:3])
    return text + (f"; and {count - 3} more." if count > 3 else ".")
