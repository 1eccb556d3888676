"""How much of a training is done, how fast it goes, and how it is stopped between two steps."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Clock", "Interrupt"]


class Clock:
    """Time of one training: steps, waiting for data, evaluations.

    Args:
        elapsed: seconds of earlier parts of this training.
        agree: the main process's value on all of them; several processes go by its time.
    """

    def __init__(self, elapsed: float, agree: Callable[[float], float] | None = None) -> None:
        self.elapsed = elapsed
        self.waited = 0.0
        """Seconds that were spent waiting for images and targets."""
        self._before, self._agree = elapsed, agree
        self._begun = self._saved = time.perf_counter()
        self._images, self._idle = 0, 0.0

    def stepped(self, images: int) -> None:
        """A step is over."""
        self._images += images
        self.elapsed = self._before + time.perf_counter() - self._begun
        if self._agree:
            self.elapsed = self._agree(self.elapsed)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens here is waiting for data."""
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens here is no step; it counts as elapsed all the same."""
        begun = time.perf_counter()
        yield
        now = time.perf_counter()
        self._idle += now - begun
        self.elapsed = self._before + now - self._begun

    def save_is_due(self, every: float) -> bool:
        """Whether the last checkpoint is older than ``every`` seconds; if so, now counts as the time of the next."""
        now = time.perf_counter()
        if now - self._saved <= every:
            return False
        self._saved = now
        return True

    def images_per_s(self) -> float:
        """Images a second, evaluations not counted."""
        return self._images / self._training()

    def data_wait(self) -> float:
        """Share of the training's time that went into waiting for data, 0-1."""
        return min(1.0, self.waited / self._training())

    def _training(self) -> float:
        return max(time.perf_counter() - self._begun - self._idle, 1e-9)


class Interrupt:
    """Ctrl-C and SIGTERM end the step that is running first, so that a checkpoint can be written; a second one does not wait.

    Attributes:
        signal: what came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._inside = False

    @contextlib.contextmanager
    def held(self) -> Iterator["Interrupt"]:
        """Hold signals back here, where this is the main thread (elsewhere Python lets nobody)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Here a signal acts at once: nothing is half done that a checkpoint would hold."""
        self._inside = True
        try:
            self.act()
            yield
        finally:
            self._inside = False

    def act(self) -> None:
        """Raise what the signal that came would have raised; nothing if none came."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.signal is not None:
            raise KeyboardInterrupt

    def _come(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        again, self.signal = self.signal is not None, number
        if again or self._inside:
            self.act()
