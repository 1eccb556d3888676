"""How long work tells what has been done; the command line draws a bar from it, a script may ignore it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["Bars", "Progress", "no_bars"]

Progress = Callable[[int, int], None]
"""Called as ``advance(done, total)`` after each piece of work, from the calling thread, ``done`` never falling."""

Bars = Callable[[str], AbstractContextManager[Progress]]
"""Opens one bar, given its title, around a piece of long work."""


@contextmanager
def no_bars(title: str) -> Iterator[Progress]:  # noqa: ARG001
    """Bars for scripts that want none."""
    yield lambda done, total: None  # noqa: ARG005
