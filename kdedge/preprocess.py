"""From an image file to the tensor a network expects: the only copy of that code in kdedge.

Training evaluation, calibration, ``kdedge classify`` and ``kdedge bench`` all call :class:`Preprocess`, so a student
sees on the device exactly what it saw when it was trained. NumPy and OpenCV only.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.errors import CardError, DataError

__all__ = ["MAX_PIXELS", "Image", "Preprocess", "decode", "resize"]

Image = NDArray[np.uint8]
"""An image as this package passes it around: uint8, shape (H, W, 3), RGB."""

MAX_PIXELS = 50_000_000
"""Images with more pixels are refused before decoding; ``$KDEDGE_MAX_PIXELS`` overrides it."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # those followed by a length, and the end


def decode(source: str | Path | bytes) -> Image:
    """Decode an image file (path or its bytes) to RGB.

    The EXIF orientation is applied; grey, palette, CMYK and 16-bit images become 8-bit RGB; the transparent pixels
    of a PNG or WebP are laid on white, as a browser would show them.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        DataError: the file is missing, is no image, is truncated, or has more than ``MAX_PIXELS`` pixels
            (read from the header, before any pixel is decoded).
    """
    name = "image" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error}).") from error
        except ValueError as error:  # a null byte in the path
            raise DataError(f"{name!r}: not the path of a file.") from error
    _refuse_too_large(data, name)
    _refuse_truncated(data, name)
    pixels = _imdecode(data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise DataError(f"{name}: not an image that can be decoded ({len(data):,} bytes).")
    # IMREAD_UNCHANGED ignores the EXIF orientation, so a transparent image that carries one keeps its opaque pixels.
    if _may_be_transparent(data) and b"eXIf" not in data and b"EXIF" not in data:
        raw = _imdecode(data, cv2.IMREAD_UNCHANGED)
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4 and raw.shape[:2] == pixels.shape[:2]:
            return _on_white(raw)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), dtype=np.uint8)


def _imdecode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels


def _refuse_too_large(data: bytes, name: str) -> None:
    setting = os.environ.get("KDEDGE_MAX_PIXELS", str(MAX_PIXELS))
    try:
        cap = int(setting)
    except ValueError:
        raise DataError(f"KDEDGE_MAX_PIXELS is {setting!r}; a number of pixels was expected.") from None
    width, height = _claimed_size(data)
    if width > 0 and height > 0 and width * height > cap:
        raise DataError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, above the cap of {cap / 1e6:.0f}; "
            "scale it down or set KDEDGE_MAX_PIXELS."
        )


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height as the header has them, (0, 0) if that cannot be read: the decoder says what is wrong then."""
    if data[:8] == PNG:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:3] == JPEG:
        for marker, at in _jpeg_segments(data):
            if marker in JPEG_FRAMES:
                return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
        return 0, 0
    import imagesize  # it loads an HTTP client and XML, which the two usual formats need not wait for

    try:
        width, height = imagesize.get(BytesIO(data))
    except Exception:
        return 0, 0
    return int(width), int(height)


def _refuse_truncated(data: bytes, name: str) -> None:
    """Some versions of OpenCV fill what is missing of an image with grey and say nothing; a classifier must not.

    Whatever follows the end of the image (the film of a phone's motion photo, say) is allowed.
    """
    size = f"{len(data):,} bytes"
    if data[:3] == JPEG and all(marker != 0xD9 for marker, _ in _jpeg_segments(data)):
        raise DataError(f"{name}: the JPEG is truncated (no end marker in {size}).")
    if data[:8] == PNG and not _png_ends(data):
        raise DataError(f"{name}: the PNG is truncated (no end chunk in {size}).")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise DataError(f"{name}: the WebP is truncated ({size} are less than its header says).")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker and where its length stands; what lies inside a segment (a thumbnail) is passed over."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        at = found.end()
        yield found[0][-1], at
        at += int.from_bytes(data[at : at + 2], "big")


def _png_ends(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _may_be_transparent(data: bytes) -> bool:
    """Whether the header admits an alpha channel: everything else is decoded once only."""
    if data[:8] == PNG:
        return data[25] in (4, 6) or b"tRNS" in data[: data.find(b"IDAT")]
    if data[8:12] == b"WEBP":
        return data[12:16] == b"VP8L" or (data[12:16] == b"VP8X" and bool(data[20] & 0x10))
    return False


def _on_white(bgra: NDArray[Any]) -> Image:
    top = 65535.0 if bgra.dtype == np.uint16 else 255.0
    alpha = bgra[..., 3:].astype(np.float32) / top
    rgb = bgra[..., 2::-1].astype(np.float32) * (255.0 / top)
    blended: Image = np.rint(rgb * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)
    return blended


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
        """Decode an image file and bring it to (size, size, 3) uint8, RGB; raises what :func:`decode` raises."""
        return self.fit(decode(source))

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
