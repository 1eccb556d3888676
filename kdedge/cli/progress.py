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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    began = time.monotonic()
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=time.monotonic() - began > PATIENCE)

        yield advance


@contextmanager
def _plain(title: str) -> Iterator[Progress]:
    began = time.monotonic()
    due = began + PATIENCE
    shown = False
    first: int | None = None  # what was done before, in a resumed run, took none of this time

    def advance(done: int, total: int) -> None:
        nonlocal due, shown, first
        now = time.monotonic()
        first = done - 1 if first is None else first
        if now > due or (shown and done >= total):
            left = (now - began) * (total - done) / max(done - first, 1)
            rest = f"about {left:.0f} s left" if done < total else f"{now - began:.0f} s"
            print(f"  {title}: {100 * done // max(total, 1)} %, {rest}", file=sys.stderr, flush=True)
            due, shown = now + PLAIN_EVERY, True

    yield advance
