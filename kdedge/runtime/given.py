"""What may be given to be classified."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kdedge.errors import DataError
from kdedge.preprocess import Image, Preprocess

__all__ = ["Source", "fit_source", "one_by_one"]

Source = str | Path | bytes | Image
"""An image: the path of a file, the bytes of one, or a decoded uint8 array of shape (H, W, 3), RGB."""


def fit_source(source: Source, preprocess: Preprocess) -> tuple[Image, str]:
    """An image at the network's size, uint8 (size, size, 3), RGB, and what to call it.

    Raises:
        DataError: it cannot be decoded, or is an array of another kind.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise DataError(f"expected a uint8 RGB array of shape (H, W, 3), got {source.dtype} {source.shape}.")
        return preprocess.fit(source), "array"
    if isinstance(source, str | Path | bytes):
        return preprocess.load(source), "bytes" if isinstance(source, bytes) else str(source)
    raise DataError(f"expected a path, bytes or a uint8 RGB array, got {type(source).__name__}.")


def one_by_one(images: Source | Iterable[Source]) -> Iterable[Source]:
    """One image as a list of it; several as they are, an array (B, H, W, 3) too; DataError for what is neither."""
    if isinstance(images, str | Path | bytes) or (isinstance(images, np.ndarray) and images.ndim != 4):
        return [images]
    if not isinstance(images, Iterable):
        raise DataError(f"expected an image or an iterable of images, got {type(images).__name__}.")
    return images
