"""What stands around a distillation: the clock, a full disk, and no trace of a command that was mistaken."""

import contextlib
import errno
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from kdedge.errors import KdedgeError, RunError
from kdedge.training.engine import Engine
from kdedge.training.run import Run

__all__ = ["Laps", "full_disk_in_words", "no_trace_of_a_mistake"]


@contextlib.contextmanager
def no_trace_of_a_mistake(out: str, engine: Engine, given: bool) -> Iterator[None]:
    """What was made of the run directory goes, if it holds no checkpoint yet, when a mistake of the user's ends the work."""
    path = Path(out)
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    empty = path.is_dir() and not any(path.iterdir())
    try:
        yield
    except KdedgeError:
        if (absent or empty) and not given and engine.main and not Run(path).last.exists():
            shutil.rmtree(path, ignore_errors=True)
            for folder in absent[1:]:
                with contextlib.suppress(OSError):  # not empty: somebody else's now
                    folder.rmdir()
            if empty:
                path.mkdir()
        raise


@contextlib.contextmanager
def full_disk_in_words(out: str) -> Iterator[None]:
    """Make an error that says what to do of a disk that is full; all files are written whole or not at all."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" ({error.filename})" if error.filename else ""
        raise RunError(
            f"the disk is full{place}; what was written before is whole: make room, then go on with "
            f"'kdedge distill --resume --out {out}'."
        ) from error


class Laps:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The step of that name is over."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
