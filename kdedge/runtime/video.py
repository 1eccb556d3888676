"""Frames of a video file, a stream or a camera, read on a thread of their own. Nothing opens a window."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.runtime.sources import Film

__all__ = ["Frame", "Video"]

Taken = TypeVar("Taken")

AHEAD = 4
"""Frames of a file that wait to be taken, at most."""

PATIENCE_MS = 10_000
"""How long a stream may keep us waiting when it is opened and for a frame; OpenCV would wait 30 seconds."""

CUT_OFF = 0.9
"""A file that gives a smaller share of the frames it claims is incomplete; the claim itself may be a little off."""


@dataclass(frozen=True)
class Frame(Generic[Taken]):
    """A frame.

    Attributes:
        number: counted from 0, over all frames, also those passed over.
        seconds: since the beginning of the video, or since the camera was opened.
        taken: what ``take`` made of it.
        work: seconds that reading and ``take`` took.
    """

    number: int
    seconds: float
    taken: Taken
    work: float


class Video(Generic[Taken]):
    """Frames of a film, in order; a context manager that ends its thread and closes the film.

    Of a file every frame asked for is kept. Of a live source the newest one is, and what nobody was ready for is dropped.

    Args:
        film: what to open.
        take: from BGR pixels, uint8 (H, W, 3), to what is wanted of a frame; on the thread that reads.
        every: take one frame of so many.
        rate: take at most so many frames a second, by the time they are shown at; None takes all.
        most: end after so many frames taken; None never does.

    Attributes:
        rate: frames a second that the source claims, None if it does not say.
        total: frames that will be taken, as far as a file says; None for a live source.
        size: width and height, pixels.
        live: whether frames come whether one is ready for them or not.
        dropped: frames of a live source that were due but nobody was ready for, so far.
        read: frames read so far, also those passed over.

    Raises:
        DataError: it cannot be opened, or opens and gives no frame; when iterated: a file ends far too early or a live
            source stops.
    """

    def __init__(
        self,
        film: Film,
        take: Callable[[NDArray[np.uint8]], Taken],
        *,
        every: int = 1,
        rate: float | None = None,
        most: int | None = None,
    ) -> None:
        self.name = film.name
        self._take, self._every, self._least, self._most = take, every, 1 / rate if rate else 0.0, most
        self._capture = _open(film)
        claimed = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._claimed = int(claimed) if 0 < claimed < 1e9 else 0
        self.live = film.live if film.live is not None else not self._claimed
        frames_a_second = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(frames_a_second) if 0 < frames_a_second < 1000 else None
        self.size = tuple(
            int(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        self.dropped = self.read = 0
        self._frames: deque[Frame[Taken]] = deque()
        self._changed = threading.Condition()
        self._ended = self._stop = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kdedge-video", daemon=True)
        self._thread.start()

    @property
    def total(self) -> int | None:
        """See the attributes of the class."""
        if self.live or not self._claimed:
            return self._most
        frames = -(-self._claimed // self._every)
        if self._least and self.rate:
            frames = min(frames, int(self._claimed / self.rate / self._least) + 1)
        return min(frames, self._most) if self._most else frames

    def __enter__(self) -> "Video[Taken]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and give the camera back; closing twice does no harm."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._thread.join()
        self._capture.release()

    def __iter__(self) -> Iterator[Frame[Taken]]:
        while True:
            with self._changed:
                while not (self._frames or self._ended):
                    self._changed.wait(0.2)  # a signal is looked at in between
                if not self._frames:
                    break
                frame = self._frames.popleft()
                self._changed.notify_all()
            yield frame
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # whoever iterates gets it
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_all(self) -> None:
        began = time.monotonic()
        due, taken = 0.0, 0
        while not self._stop and (self._most is None or taken < self._most):
            start = time.perf_counter()
            if not self._capture.grab():
                self._refuse_early_end()
                return
            number, seconds = self.read, self._seconds(began)
            self.read += 1
            if number % self._every or seconds < due - 1e-6:
                continue
            if self._least:
                due = max(due + self._least, seconds - self._least)  # after a pause it does not catch up
            there, pixels = self._capture.retrieve()
            if not there or pixels is None:
                continue
            frame = Frame(number, seconds, self._take(_bgr(pixels)), time.perf_counter() - start)
            taken += 1
            self._hand_over(frame)

    def _hand_over(self, frame: Frame[Taken]) -> None:
        with self._changed:
            if self.live:
                self.dropped += len(self._frames)
                self._frames.clear()
            while len(self._frames) >= AHEAD and not self._stop:
                self._changed.wait()
            self._frames.append(frame)
            self._changed.notify_all()

    def _seconds(self, began: float) -> float:
        """When the frame just read is shown; files say so, and where one does not its rate does."""
        if self.live:
            return time.monotonic() - began
        said = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if said > 0 or not self.read:
            return max(said, 0.0)
        return self.read / self.rate if self.rate else 0.0

    def _refuse_early_end(self) -> None:
        if not self.read:
            raise DataError(f"{self.name}: it opens but gives no frame.")
        if self.live:
            raise DataError(f"{self.name}: it stopped after {self.read} frames; was it unplugged or switched off?")
        if self.read < CUT_OFF * self._claimed:
            raise DataError(
                f"{self.name}: it ends after {self.read} of {self._claimed} frames; the file may be damaged or cut off."
            )


def _open(film: Film) -> Any:
    try:
        if isinstance(film.opened, str) and film.live is None:
            waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, PATIENCE_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, PATIENCE_MS]
            capture = cv2.VideoCapture(film.opened, cv2.CAP_FFMPEG, waits)
        else:
            capture = cv2.VideoCapture(film.opened)
        opened = capture.isOpened()
    except cv2.error:
        opened = False
    if opened:
        return capture
    if film.live:
        raise DataError(
            f"{film.name}: the camera cannot be opened; is it there, free and permitted? 'kdedge doctor' lists cameras."
        )
    if film.live is None:
        raise DataError(
            f"{film.name}: the stream cannot be opened; check the address and that it can be reached from here."
        )
    raise DataError(f"{film.name}: {_why_not(film.opened)}")


def _why_not(path: str | int) -> str:
    try:
        with Path(str(path)).open("rb"):
            return "not a video that this OpenCV can decode."
    except OSError as error:
        return f"cannot be read ({error.strerror or error})."


def _bgr(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.ndim == 2 or pixels.shape[2] == 1:  # some cameras are grey
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return np.asarray(pixels, np.uint8)
