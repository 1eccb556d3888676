"""How far a long command is: a bar on a terminal, a plain line now and then elsewhere, nothing for short work."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kdedge.progress import Progress

__all__ = ["progress_bar"]

PATIENCE = 2.0
"""Seconds before anything is shown."""

PLAIN_EVERY = 10.0
"""Seconds between two plain lines."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show on stderr how far the work is that the yielded function is told about."""
    with _bar(title) if sys.stderr.isatty() else _plain(title) as advance:
        yield advance


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    began = time.monotonic()
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=time.monotonic() - began > PATIENCE)

        yield advance


@contextmanager
def _plain(title: str) -> Iterator[Progress]:
    due = time.monotonic() + PATIENCE

    def advance(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() > due:
            print(f"{title}: {done}/{total}", file=sys.stderr, flush=True)
            due = time.monotonic() + PLAIN_EVERY

    yield advance
