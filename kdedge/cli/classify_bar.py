"""How far ``kdedge classify`` is, for work that turns out to be long."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.progress import Progress

__all__ = ["LateBar"]

PATIENCE = 0.3
"""Seconds before a progress bar is prepared, which shows itself when two more have passed; short work never loads one."""


class LateBar:
    """A progress bar that nobody pays for before it is worth it; none where the answers scroll by on the same terminal."""

    def __init__(self, title: str, count: Callable[[], int | None], wanted: bool) -> None:
        self._title, self._count = title, count
        self._wanted = wanted and not (sys.stderr.isatty() and sys.stdout.isatty())
        self._began = time.monotonic()
        self._total: int | None = None
        self._advance: Progress | None = None
        self._stack = ExitStack()

    def show(self, done: int, note: str = "") -> None:
        """Say that ``done`` pieces are done."""
        if not self._wanted or (self._advance is None and time.monotonic() - self._began < PATIENCE):
            return
        if self._advance is None:
            self._total = self._count()
            if self._total is None:
                self._wanted = False
                return
            from kdedge.cli.progress import progress_bar

            self._advance = self._stack.enter_context(progress_bar(self._title))
        assert self._total is not None
        self._advance(done, max(done, self._total), note)

    def __enter__(self) -> "LateBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
