"""A server in a process of its own, and its memory."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdedge.errors import RunError

__all__ = ["Served", "resident_mb", "served", "watched"]

COMMAND = (sys.executable, "-m", "kdedge", "serve")
PATIENCE = 60.0


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None


@contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """``kdedge serve ARGUMENTS --port 0``, stopped at the end; RunError if it does not come up."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://(\S+):(\d+)", process.stdout.readline())
        if not found:
            raise RunError("the server did not start.")
        yield Served(process, found[1], int(found[2]))
    finally:
        process.terminate()
        process.wait(PATIENCE)


def resident_mb(pid: int) -> float:
    """Resident memory now, 10^6 bytes. Linux."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def watched(pid: int, every: float) -> Iterator[list[tuple[float, float]]]:
    """Seconds and resident memory, measured in a thread as long as the block runs."""
    samples: list[tuple[float, float]] = []
    ended = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        while not ended.wait(every):
            try:
                samples.append((round(time.perf_counter() - began, 1), round(resident_mb(pid), 1)))
            except OSError:
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
