"""Copies of images and videos with the answer written on them."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.decode import Box
from kdedge.errors import RunError
from kdedge.files import atomic_path, write_bytes

__all__ = ["FilmWriter", "annotated", "drawable", "place_for", "write_image"]

SMALLEST = 240
"""Pixels of the short side below which a copy is enlarged, so that what is written on it can be read."""

LINE = 0.05
"""Height of a line, as a share of the short side."""

LEAST = 14
"""Height of a line in pixels, at least."""

UNICODE = hasattr(cv2, "FontFace")
"""OpenCV 5 draws the letters of most languages, OpenCV 4 ASCII alone."""

_PLAIN = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "ł": "l", "Ł": "L", "đ": "d", "ı": "i"}
)
_KEPT = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def drawable(text: str) -> str:
    """What can be drawn of a text: all of it with OpenCV 5; with OpenCV 4 letters lose their accents, and those that are no
    Latin ones become their number, ``U+732B``, so that two labels stay two."""
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    if UNICODE:
        return text
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(
        sign if sign.isascii() else f"U+{ord(sign):04X}" for sign in plain if not unicodedata.combining(sign)
    )


def annotated(pixels: NDArray[np.uint8], lines: Sequence[str], boxes: Sequence[Box] = ()) -> NDArray[np.uint8]:
    """A copy with the lines on a dark band along its lower edge; a small image is enlarged.

    Args:
        pixels: uint8 (H, W, 3), BGR.
        lines: an answer each; those that find no room are left out.
        boxes: left, top, width, height in pixels, drawn with their numbers, from 1.

    Returns:
        uint8 (H, W, 3), BGR; whole multiples of the size given.
    """
    times = max(1, -(-SMALLEST // min(pixels.shape[:2])))
    drawn = np.ascontiguousarray(pixels.repeat(times, 0).repeat(times, 1))
    height, width = drawn.shape[:2]
    line = max(LEAST, round(LINE * min(height, width)))
    for place, (left, top, wide, high) in enumerate(boxes, 1):
        start = (round(left * times), round(top * times))
        end = (round((left + wide) * times), round((top + high) * times))
        cv2.rectangle(drawn, start, end, (255, 255, 255), max(2, line // 8))
        _write(drawn, f"{place}", (start[0] + line // 4, max(start[1] - line // 4, line)), line, width)
    room = max(1, (height // 2) // round(1.4 * line))
    shown = [drawable(text) for text in lines[:room]]
    if not shown:
        return drawn
    band = round(1.4 * line) * len(shown) + line // 2
    drawn[height - band :] = drawn[height - band :] // 4
    for place, text in enumerate(shown):
        bottom = height - band + round(1.4 * line) * (place + 1) - line // 4
        _write(drawn, text, (line // 2, bottom), line, width - line)
    return drawn


def _write(drawn: NDArray[np.uint8], text: str, corner: tuple[int, int], line: int, room: int) -> None:
    """White letters, made smaller or cut where the line is too long."""
    if UNICODE:
        font = cv2.FontFace("sans")

        def wide(text: str, size: int) -> int:
            return int(cv2.getTextSize((1, 1), text, (0, 0), font, size, 400)[2])

        size = line
        while size > LEAST and wide(text, size) > room:
            size -= max(1, size // 10)
        cv2.putText(drawn, _cut(text, lambda text: wide(text, size) <= room), corner, (255, 255, 255), font, size, 400)
        return
    face, scale = cv2.FONT_HERSHEY_SIMPLEX, line / 30  # its capitals are 22 pixels high, and hang 8 below
    thick = max(1, round(scale * 1.5))

    def wide_in_ascii(text: str, scale: float) -> int:
        return int(cv2.getTextSize(text, face, scale, thick)[0][0])

    while scale > LEAST / 30 and wide_in_ascii(text, scale) > room:
        scale *= 0.9
    text = _cut(text, lambda text: wide_in_ascii(text, scale) <= room)
    cv2.putText(drawn, text, corner, face, scale, (255, 255, 255), thick, cv2.LINE_AA)


def _cut(text: str, fits: Callable[[str], bool]) -> str:
    if fits(text):
        return text
    kept = len(text)
    while kept > 1 and not fits(text[:kept] + "..."):
        kept -= 1
    return text[:kept] + "..."


def place_for(name: str, folder: Path, base: Path) -> Path:
    """Where the copy of an image goes: below ``folder`` as the image lies below ``base``, so that no two meet.

    An image that does not lie below ``base`` keeps its whole path there.
    """
    whole = Path(os.path.abspath(name))  # noqa: PTH100  links are not followed
    inside = whole.relative_to(base) if whole.is_relative_to(base) else whole.relative_to(whole.anchor)
    if inside.suffix.lower() not in _KEPT:
        inside = inside.with_name(f"{inside.name}.jpg")
    return folder / inside


def write_image(path: Path, pixels: NDArray[np.uint8], source: str = "") -> None:
    """Write an image in the format that its name says, whole or not at all.

    Raises:
        RunError: it cannot be written, or would take the place of ``source``.
    """
    if source and path.exists() and os.path.realpath(path) == os.path.realpath(source):
        raise RunError(f"{path}: --annotate would write over the image itself; give another folder.")
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    done, data = cv2.imencode(path.suffix, pixels, options)
    try:
        if done:
            write_bytes(path, data.tobytes())
            return
        why = "OpenCV cannot encode it"
    except OSError as error:
        why = error.strerror or str(error)
    raise RunError(f"{path}: cannot be written ({why}).")


class FilmWriter:
    """An MP4 video of annotated frames, each shown when it was in the original; it appears once it is finished.

    Args:
        path: must end in ``.mp4``; nothing is written without a frame.
        rate: frames a second.

    Raises:
        RunError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._first = 0.0
        self._written = 0

    def add(self, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame, BGR (H, W, 3), all of one size; it is shown until the next one is due."""
        if self._writer is None:
            self._writer, self._first = self._open(pixels.shape[1], pixels.shape[0]), seconds
        times = max(1, round((seconds - self._first) * self.rate) + 1 - self._written)
        for _ in range(times):
            self._writer.write(pixels)
        self._written += times

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror or error}).") from error
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, (width, height))
        if not writer.isOpened():
            raise RunError(f"{self.path}: this OpenCV cannot write MP4 videos.")
        return writer

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        self._stack.__exit__(kind, error, trace)
