"""What an upload must be before a decoder sees it: one of the known formats, and no larger than allowed."""

from kdedge.decode import claimed_size
from kdedge.runtime.server.errors import Problem

__all__ = ["KINDS", "check_image", "kind_of"]

KINDS = ("JPEG", "PNG", "WebP", "BMP", "TIFF")
"""OpenCV reads more; what is refused here cannot be attacked."""


def kind_of(data: bytes) -> str | None:
    """The format by its first bytes; None if it is none of :data:`KINDS`."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:2] == b"BM":
        return "BMP"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    return None


def check_image(data: bytes, max_pixels: int) -> int:
    """Refuse what is no image or a too large one, by its header alone.

    Returns:
        Its pixels.

    Raises:
        Problem: 422 if it is empty, of another format, or its header does not tell its size; 413 if it has more pixels.
    """
    if not data:
        raise Problem(422, "empty", "The image is empty.")
    kind = kind_of(data)
    if kind is None:
        known = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise Problem(422, "not_an_image", f"The {len(data):,} bytes are no {known} image.")
    width, height = _size(data, kind)
    if width < 1 or height < 1:
        raise Problem(422, "undecodable", f"The header of the {kind} does not tell its size; it may be cut off.")
    if width * height > max_pixels:
        raise Problem(
            413,
            "too_many_pixels",
            f"The image has {width} x {height} pixels, more than the {max_pixels:,} that are allowed.",
        )
    return width * height


def _size(data: bytes, kind: str) -> tuple[int, int]:
    if kind != "BMP":
        return claimed_size(data)
    if data[14:18] == b"\x0c\0\0\0":  # the header of OS/2
        return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return width, abs(height)  # below zero: the first row is the top one
