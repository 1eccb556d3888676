"""Images a second over numbers of images a run and of threads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kdedge.errors import ModelError
from kdedge.progress import Progress
from kdedge.runtime.bench.input import feed_of, runner
from kdedge.runtime.compare import Candidate
from kdedge.runtime.latency import measure
from kdedge.runtime.session import open_session, usable_cores

__all__ = ["BATCHES", "Cell", "sweep", "thread_counts"]

BATCHES = (1, 2, 4, 8)

SECONDS, REPEATS, WARMUP = 0.5, 5, 2
"""Of each cell, at least."""


@dataclass(frozen=True)
class Cell:
    """One model at one number of images and threads.

    Attributes:
        model, precision, role: as in :class:`kdedge.runtime.compare.Candidate`.
        threads: of onnxruntime.
        batch: images a run.
        fixed: whether the file allows no other number.
        images_per_s: over all timed runs.
        p50_ms: median of a run, milliseconds.
        runs: timed runs.
    """

    model: str
    precision: str
    role: str
    threads: int
    batch: int
    fixed: bool
    images_per_s: float
    p50_ms: float
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def thread_counts(cores: int | None = None) -> tuple[int, ...]:
    """1, 2, 4... and all the cores that may be used."""
    cores = cores or usable_cores()
    return tuple(sorted({*(1 << power for power in range(cores.bit_length()) if 1 << power <= cores), cores}))


def sweep(
    candidates: Sequence[Candidate],
    size: int,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] | None = None,
    provider: str = "cpu",
    progress: Progress | None = None,
    seconds: float = SECONDS,
) -> list[Cell]:
    """Time every model at every number of images and threads; the models take turns in each.

    A file that fixes its number of images is timed at that one alone.

    Args:
        candidates: the models.
        size: pixels.
        batches: images a run.
        threads: of onnxruntime; None takes :func:`thread_counts`. More than there are cores are used if they are asked for.
        provider: as for :func:`kdedge.runtime.compare.compare`.
        progress: called with (pairs done, pairs in all).
        seconds: timed seconds of each cell, at least.

    Raises:
        ModelError: a number is below 1, or see :func:`kdedge.runtime.compare.compare`.
    """
    threads = threads or thread_counts()
    if min(*batches, *threads) < 1:
        raise ModelError(f"batches {list(batches)} and threads {list(threads)} must be 1 or more.")
    found, done = [], 0
    for count in dict.fromkeys(threads):
        sessions = [open_session(candidate.path, count, provider=provider) for candidate in candidates]
        timed: set[int] = set()
        for batch in dict.fromkeys(batches):
            feeds = {i: feed_of(session, size, batch, candidates[i].path) for i, session in enumerate(sessions)}
            feeds = {i: feed for i, feed in feeds.items() if not (feed.fixed and i in timed)}
            timed |= {i for i, feed in feeds.items() if feed.fixed}
            runs = {str(i): runner(sessions[i], feed, candidates[i].path) for i, feed in feeds.items()}
            sizes = {str(i): feed.batch for i, feed in feeds.items()}
            times = measure(runs, REPEATS, WARMUP, sizes, min_seconds=seconds) if runs else {}
            for i, feed in feeds.items():
                time, its = times[str(i)], candidates[i]
                found.append(
                    Cell(
                        its.model,
                        its.precision,
                        its.role,
                        count,
                        feed.batch,
                        feed.fixed,
                        time.images_per_s,
                        time.p50_ms,
                        len(time.samples_ms),
                    )
                )
            done += 1
            if progress:
                progress(done, len(dict.fromkeys(threads)) * len(dict.fromkeys(batches)))
    return found
