"""How far a long command is: a bar on a terminal, a plain line now and then elsewhere, nothing for short work."""

import math
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

MEMORY = 15.0
"""Seconds (at least; a quarter of the time so far where that is more) over which the rate forgets."""

ROOMY = 100
"""Columns of a terminal that shows the time so far, too."""

FEWEST = 3
"""Updates, and their time in seconds below, before the time that is left can be told."""
SHORTEST = 2.0


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show on stderr how far the work is that the yielded function is told about."""
    with _bar(title) if sys.stderr.isatty() else _plain(title) as advance:
        yield advance


class _Pace:
    """An exponentially weighted rate of work.

    It begins at the first update: what was done before, in a resumed run, took none of this time, and the first piece
    often holds a warm-up.
    """

    def __init__(self) -> None:
        self.updates = 0
        self.began = self.now = self.seconds = self.pieces = 0.0
        self.done = 0

    def update(self, done: int, now: float) -> None:
        """Take in how much is ``done`` at the time ``now``, in seconds."""
        if self.updates == 0:
            self.began = now
        else:
            passed = now - self.now
            kept = math.exp(-passed / max(MEMORY, (now - self.began) / 4))
            self.seconds = kept * self.seconds + passed
            self.pieces = kept * self.pieces + (done - self.done)
        self.updates, self.done, self.now = self.updates + 1, done, now

    def left(self, total: int) -> float | None:
        """Seconds until ``total`` is done; None as long as that is anybody's guess."""
        if self.updates <= FEWEST or self.now - self.began < SHORTEST or not self.pieces > 0:
            return None
        return (total - self.done) * self.seconds / self.pieces


def _words(left: float | None) -> str:
    if left is None:
        return "estimating"
    if left < 90:
        return f"about {left:.0f} s left"
    minutes = round(left / 60)
    return f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60:02d} min left"


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    began = time.monotonic()
    pace = _Pace()
    console = Console(stderr=True)
    elapsed = console.width >= ROOMY
    line = BarColumn()
    columns = (
        TextColumn("  {task.description}", markup=False),
        line,
        MofNCompleteColumn(),
        *([TimeElapsedColumn()] if elapsed else []),
        TextColumn("{task.fields[left]}", markup=False, style="progress.remaining"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, visible=False, left="", note="")

        def advance(done: int, total: int, note: str = "", /) -> None:
            now = time.monotonic()
            pace.update(done, now)
            left = _words(pace.left(total)) if done < total else ""
            taken = 2 + 2 * len(str(total)) + 1 + (7 if elapsed else 0) + len(left) + len(columns)
            name, line.bar_width, rest = _share(console.width - taken, title, _line(note))
            visible = now - began > PATIENCE
            bar.update(task, description=name, completed=done, total=total, visible=visible, left=left, note=rest)

        yield advance


def _share(room: int, title: str, note: str) -> tuple[str, int, str]:
    """Title, width of the bar and note that fit into ``room`` characters: in a narrow terminal all three are cut."""
    named, barred = min(len(title), 16), 8
    noted = min(len(note), max(0, room - named - barred))
    named = min(len(title), max(named, room - noted - barred))
    return _cut(title, named), min(30, max(barred, room - noted - named)), _cut(note, noted)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…" * (width > 0)


@contextmanager
def _plain(title: str) -> Iterator[Progress]:
    began = time.monotonic()
    due = began + PATIENCE
    shown = ended = False
    pace = _Pace()

    def advance(done: int, total: int, note: str = "", /) -> None:
        nonlocal due, shown, ended
        now = time.monotonic()
        pace.update(done, now)
        last = done >= total
        if (last and not ended and (shown or now > due)) or (not last and now > due):
            rest = f"{now - began:.0f} s" if last else _words(pace.left(total))
            said = [f"{100 * done // max(total, 1)} %", rest, *([_line(note)] if note else [])]
            print(f"  {title}: {', '.join(said)}", file=sys.stderr, flush=True)
            due, shown = now + PLAIN_EVERY, True
        ended = last

    yield advance


def _line(note: str) -> str:
    return " ".join(note.split())
