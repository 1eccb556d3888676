"""Decoding a shard at a time, and what its images are called."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdedge.data.shard_stream import ShardImage, read_shard
from kdedge.errors import DataError
from kdedge.preprocess import Image, Preprocess, decode

__all__ = ["BadMember", "DecodedShard", "decode_shard", "image_id"]

BadMember = tuple[str, str]
"""The key of an image that cannot be read, and why."""

AHEAD = 64
BLOCK = 512


class DecodedShard(NamedTuple):
    """What :func:`decode_shard` read.

    Attributes:
        images: uint8 (N, size, size, 3), RGB, in the order of the shard.
        keys: the N images' keys.
        bad: the images that were skipped.
        positions: the N images' positions in the shard.
    """

    images: NDArray[np.uint8]
    keys: list[str]
    bad: list[BadMember]
    positions: list[int]


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
    positions: list[int] = []
    bad: list[BadMember] = []

    def take(image: ShardImage, result: Image | str) -> None:
        if isinstance(result, str):
            bad.append((image.key, result))
            return
        if len(keys) == len(images):  # grown in place, as a list of images to stack would need the memory twice
            images.resize((len(images) + BLOCK, *images.shape[1:]), refcheck=False)
        images[len(keys)] = result
        keys.append(image.key)
        positions.append(image.position)

    waiting: deque[tuple[ShardImage, Future[Image | str]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for image in read_shard(shard):
            waiting.append((image, pool.submit(work, image.data)))
            if len(waiting) > AHEAD:
                first, future = waiting.popleft()
                take(first, future.result())
        for last, future in waiting:
            take(last, future.result())
    images.resize((len(keys), *images.shape[1:]), refcheck=False)
    return DecodedShard(images, keys, bad, positions)


def image_id(label: str, key: str) -> int:
    """A number of 63 bits that stays the image's own wherever the transfer set lies and in whatever order it is read.

    It is the first eight bytes, big-endian and without the lowest bit, of the SHA-256 of label, zero byte and key.

    Args:
        label: the shard's, from :func:`kdedge.data.shard_list.shard_labels`.
        key: the image's, :attr:`kdedge.data.shard_stream.ShardImage.key`.
    """
    text = f"{label}\0{key}".encode(errors="surrogateescape")  # names in a tar file may be no UTF-8
    return int.from_bytes(sha256(text).digest()[:8], "big") >> 1
