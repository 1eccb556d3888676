"""Images for calibration and verification that are decoded when they are needed and not kept."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.preprocess import Preprocess, decode

__all__ = ["Pictures"]

_BATCH = 16


class Pictures:
    """A fixed list of images, each fitted to the network's size.

    Args:
        source: paths of image files, or fitted RGB images, uint8, (N, size, size, 3); a memory map will do.
        preprocess: how an image is fitted.

    Raises:
        DataError: an array of another type or shape.
    """

    def __init__(self, source: Sequence[str | Path] | NDArray[np.uint8], preprocess: Preprocess) -> None:
        size = preprocess.size
        if isinstance(source, np.ndarray) and (source.dtype != np.uint8 or source.shape[1:] != (size, size, 3)):
            raise DataError(f"expected uint8 images (N, {size}, {size}, 3), got {source.dtype} {source.shape}.")
        self._source = source
        self._preprocess = preprocess

    @classmethod
    def from_paths(cls, paths: Sequence[str | Path], preprocess: Preprocess, most: int | None = None) -> "Pictures":
        """All of ``paths``, or ``most`` of them evenly spaced over the list."""
        if most is None or most >= len(paths):
            return cls(list(paths), preprocess)
        return cls([paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, most, dtype=int))], preprocess)

    def __len__(self) -> int:
        return len(self._source)

    def some(self, most: int) -> NDArray[np.uint8]:
        """At most ``most`` of them, evenly spaced over the list, in memory: uint8, (N, S, S, 3)."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(most, len(self)), dtype=int))
        if isinstance(self._source, np.ndarray):
            return np.asarray(self._source[rows])
        return self._fitted([self._source[row] for row in rows])

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Fitted RGB images, ``size`` at a time and in order: uint8, (B, S, S, 3); the last batch may be smaller.

        Raises:
            DataError: a file cannot be decoded.
        """
        for start in range(0, len(self), size):
            yield self._fitted(self._source[start : start + size])

    def array(self) -> NDArray[np.uint8]:
        """All of them in memory: uint8, (N, S, S, 3)."""
        return self._fitted(self._source)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the fitted pixels and their number."""
        digest = sha256(f"{len(self)} of {self._preprocess.size};".encode())
        for batch in self.batches(_BATCH):
            digest.update(np.ascontiguousarray(batch).data)
        return digest.hexdigest()

    def _fitted(self, source: Sequence[str | Path] | NDArray[np.uint8]) -> NDArray[np.uint8]:
        if isinstance(source, np.ndarray):
            return np.asarray(source)
        size = self._preprocess.size
        fitted = np.empty((len(source), size, size, 3), np.uint8)
        for place, path in zip(fitted, source, strict=True):
            place[:] = self._preprocess.fit(decode(path))
        return fitted
