"""From the bytes of an image file to pixels; what is no whole image is refused with a reason. NumPy and OpenCV only."""

import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError

__all__ = ["MAX_PIXELS", "Box", "Image", "claimed_size", "decode", "decode_bgr"]

Image = NDArray[np.uint8]
"""An image as this package passes it around: uint8, shape (H, W, 3), RGB."""

Box = tuple[float, float, float, float]
"""Left, top, width, height of a part of an image as it is shown, in its pixels; may reach over its edge."""

MAX_PIXELS = 50_000_000
"""Images with more pixels are refused before decoding; ``$KDEDGE_MAX_PIXELS`` overrides it."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # those followed by a length, and the end

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def decode(source: str | Path | bytes, least: int | None = None) -> Image:
    """Decode an image file (path or its bytes) to RGB.

    The EXIF orientation is applied; grey, palette, CMYK and 16-bit images become 8-bit RGB; the transparent pixels
    of a PNG or WebP are laid on white, as a browser would show them.

    Args:
        least: pixels that the short side is needed with. A JPEG that has more is decoded at 1/2, 1/4 or 1/8 of its scale
            as long as that leaves ``least``: its blocks of 8 x 8 pixels then hold their means, see
            :meth:`kdedge.preprocess.Preprocess.load`. None decodes every pixel.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        DataError: the file is missing, is no image, is truncated, or has more than ``MAX_PIXELS`` pixels
            (read from the header, before any pixel is decoded).
    """
    pixels = decode_bgr(source, least)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), dtype=np.uint8)


def decode_bgr(source: str | Path | bytes, least: int | None = None) -> NDArray[np.uint8]:
    """As :func:`decode`, with the channels in the order BGR: whoever shrinks the image has less to turn round then."""
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
    size = claimed_size(data)
    _refuse_too_large(size, name)
    _refuse_truncated(data, name)
    pixels = _imdecode(data, _scale(data, size, least))
    if pixels is None:
        raise DataError(f"{name}: not an image that can be decoded ({len(data):,} bytes).")
    # IMREAD_UNCHANGED ignores the EXIF orientation, so a transparent image that carries one keeps its opaque pixels.
    if _may_be_transparent(data) and b"eXIf" not in data and b"EXIF" not in data:
        raw = _imdecode(data, cv2.IMREAD_UNCHANGED)
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4 and raw.shape[:2] == pixels.shape[:2]:
            return _on_white(raw)
    return pixels


def _scale(data: bytes, size: tuple[int, int], least: int | None) -> int:
    """How to decode. The other formats have no reduced scale: OpenCV would shrink them itself, and worse than we do."""
    if least is not None and data[:3] == JPEG:
        for divisor, flags in _REDUCED:
            if min(size) >= max(least, 1) * divisor:
                return int(flags)
    return int(cv2.IMREAD_COLOR)


def _imdecode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels


def _refuse_too_large(size: tuple[int, int], name: str) -> None:
    setting = os.environ.get("KDEDGE_MAX_PIXELS", str(MAX_PIXELS))
    try:
        cap = int(setting)
    except ValueError:
        raise DataError(f"KDEDGE_MAX_PIXELS is {setting!r}; a number of pixels was expected.") from None
    width, height = size
    if width > 0 and height > 0 and width * height > cap:
        raise DataError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, above the cap of {cap / 1e6:.0f}; "
            "scale it down or set KDEDGE_MAX_PIXELS."
        )


def claimed_size(data: bytes) -> tuple[int, int]:
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
    if data[:3] == JPEG and not _jpeg_ends(data):
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


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end marker is there: of most files the last thing, so the compressed pixels need not be searched."""
    for marker, at in _jpeg_segments(data):
        if marker == JPEG_END or (marker == JPEG_SCAN and at + 2 < len(data) and data.endswith(b"\xff\xd9")):
            return True
    return False


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


def _on_white(bgra: NDArray[Any]) -> NDArray[np.uint8]:
    top = 65535.0 if bgra.dtype == np.uint16 else 255.0
    alpha = bgra[..., 3:].astype(np.float32) / top
    color = bgra[..., :3].astype(np.float32) * (255.0 / top)
    blended: NDArray[np.uint8] = np.rint(color * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)
    return blended
