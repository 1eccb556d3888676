"""How long work tells what has been done; the command line draws a bar from it, a script may ignore it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Bars", "Progress", "no_bars"]


class Progress(Protocol):
    """Called as ``advance(done, total)`` after each piece of work, from the calling thread, ``done`` never falling.

    The training loop alone adds a note, and only where it has one to tell; whatever is never handed to a training may
    take two arguments.
    """

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Args:
        done, total: in any unit, the same for both.
        note: a few words about the work as it stands, shown beside the bar.
        """


Bars = Callable[[str], AbstractContextManager[Progress]]
"""Opens one bar, given its title, around a piece of long work."""


def _ignore(done: int, total: int, note: str = "", /) -> None:
    """Nobody looks."""


@contextmanager
def no_bars(title: str) -> Iterator[Progress]:  # noqa: ARG001
    """Bars for scripts that want none."""
    yield _ignore
