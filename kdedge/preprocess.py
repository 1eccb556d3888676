"""From an image file to the tensor a network expects: the only copy of that code in kdedge.

Training evaluation, calibration, ``kdedge classify`` and ``kdedge bench`` all call :class:`Preprocess`, so a student
sees on the device what it saw when it was trained. NumPy and OpenCV only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.decode import MAX_PIXELS, Image, decode, decode_bgr
from kdedge.errors import CardError, DataError

__all__ = ["MAX_PIXELS", "Image", "Preprocess", "decode", "resize"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

SPARE = 3
"""Pixels a side that a JPEG decoded at a reduced scale must keep for each pixel of the network's input."""


def resize(image: Image, size: int, mode: Literal["crop", "squash"] = "crop") -> Image:
    """Scale to ``size`` x ``size``: ``crop`` scales the short side and takes the centre, ``squash`` ignores the ratio.

    Area averaging shrinks, bilinear interpolation enlarges. An image of that size is returned as it is.
    """
    height, width = image.shape[:2]
    if mode == "crop" and height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
        height = width = side
    if (height, width) == (size, size):
        return image
    shrinks = size * size < height * width
    scaled = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(scaled, dtype=np.uint8)


@lru_cache(maxsize=64)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[NDArray[np.float32], ...]:
    """What each of the 256 values of a pixel becomes, a table of (256,) float32 a channel."""
    values, scale = np.arange(256, dtype=np.float32), np.float32(1.0) / np.asarray(std, np.float32)
    return tuple((values - np.float32(m)) * scale[place] for place, m in enumerate(mean))


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its input; travels inside every exported file.

    Attributes:
        size: height and width of the network's input, pixels.
        mean: per channel, in units of 0-255 pixel values, in the order of ``color``.
        std: per channel, likewise. The network gets ``(pixel - mean) / std``.
        color: channel order the network expects.
        resize: ``crop`` (short side, then centre) or ``squash``.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["crop", "squash"] = "crop"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise CardError(f"preprocess.size is {self.size}; it must be a positive number of pixels.")
        if self.color not in ("rgb", "bgr") or self.resize not in ("crop", "squash"):
            raise CardError(f"preprocess: color {self.color!r} or resize {self.resize!r} is not known.")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise CardError(f"preprocess: mean {self.mean} and std {self.std} must be three numbers, std above zero.")

    def fit(self, image: Image) -> Image:
        """Scale one RGB image to (size, size, 3) uint8."""
        return resize(image, self.size, self.resize)

    def load(self, source: str | Path | bytes) -> Image:
        """Decode an image file and bring it to (size, size, 3) uint8, RGB; for what is classified, a few times faster.

        A JPEG is decoded at 1/2, 1/4 or 1/8 of its scale as long as :data:`SPARE` * ``size`` pixels remain on its short side.
        At 224 pixels that moves a pixel of 60 photographs by 0.2 of 255 on average and the worst photograph by 0.6 (1 % of its
        pixels by more than 3), the finest stripes by 8, and the probabilities of float students by 0.01 on photographs at most;
        at 64 pixels the worst moves by 1.1. ``tests/test_reduced.py`` holds the bounds. Training and calibration see
        ``fit(decode(source))`` of every image.

        Raises:
            DataError: see :func:`decode`.
        """
        pixels = self.fit(decode_bgr(source, SPARE * self.size))
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def normalize(
        self, batch: NDArray[np.uint8] | Sequence[Image], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Turn fitted RGB images into the network's input.

        Args:
            batch: uint8, (B, size, size, 3), RGB; or a sequence of B images (size, size, 3).
            out: float32, (B, 3, size, size), contiguous: where to write it. A new array is mostly page faults.

        Returns:
            float32, (B, 3, size, size), contiguous.
        """
        wanted = (self.size, self.size, 3)
        if wrong := next((image.shape for image in batch if image.shape != wanted), None):
            got = batch.shape if isinstance(batch, np.ndarray) else wrong
            raise DataError(f"expected a batch of shape (B, {self.size}, {self.size}, 3), got {got}.")
        planes = np.empty((len(batch), 3, self.size, self.size), np.float32) if out is None else out
        order = (2, 1, 0) if self.color == "bgr" else (0, 1, 2)
        tables = _tables(self.mean, self.std)
        for image, target in zip(batch, planes, strict=True):
            channels = cv2.split(np.ascontiguousarray(image))
            for plane, channel, table in zip(target, order, tables, strict=True):
                cv2.LUT(channels[channel], table, plane)  # one pass over memory, where arithmetic takes three
        return planes

    def __call__(self, images: Iterable[Image]) -> NDArray[np.float32]:
        """Fit and normalise decoded RGB images of any size: float32 of shape (B, 3, size, size)."""
        fitted = [self.fit(image) for image in images]
        if not fitted:
            return np.empty((0, 3, self.size, self.size), np.float32)
        return self.normalize(fitted)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Preprocess":
        """Read what :meth:`to_dict` wrote; raises CardError on anything else."""
        try:
            mean, std = (tuple(float(x) for x in value[key]) for key in ("mean", "std"))
            return cls(int(value["size"]), mean, std, value["color"], value["resize"])  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise CardError(f"the card's preprocessing cannot be read: {value!r}.") from error
