"""Networks beside each other on one machine: the rows of ``kdedge bench``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import ModelError
from kdedge.progress import Progress
from kdedge.runtime.conditions import conditions
from kdedge.runtime.latency import Latency, measure
from kdedge.runtime.memory import peak_rss_mb
from kdedge.runtime.session import default_threads, open_session

__all__ = ["Candidate", "Comparison", "Row", "compare"]


@dataclass(frozen=True)
class Candidate:
    """A model to measure.

    Attributes:
        model: how it is called in the table.
        precision: ``fp32`` or ``int8``.
        path: ONNX file with one input (B, 3, size, size).
        parameters: number of weights; None takes what the file's card says, if it has one.
        role: ``student`` or ``teacher``; ratios are taken to the first fp32 teacher.
    """

    model: str
    precision: str
    path: Path
    parameters: int | None = None
    role: str = "student"


@dataclass(frozen=True)
class Row:
    """What was measured of one candidate.

    Attributes:
        candidate: the model.
        bytes: size of the file.
        parameters: number of weights, None if nobody knows.
        latency: times, every sample kept.
        peak_rss_mb: highest memory of a fresh process that runs it, 10^6 bytes; None if it was not measured.
        provider: the execution provider that really ran it.
    """

    candidate: Candidate
    bytes: int
    parameters: int | None
    latency: Latency
    peak_rss_mb: float | None
    provider: str


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of the candidates, and on what they were measured."""

    rows: tuple[Row, ...]
    conditions: dict[str, Any]

    def speedup(self, row: Row) -> float | None:
        """How many times faster (median) than the fp32 teacher; None without one."""
        teacher = self._teacher()
        return teacher.latency.p50_ms / row.latency.p50_ms if teacher else None

    def shrink(self, row: Row) -> float | None:
        """How many times smaller (bytes) than the fp32 teacher; None without one."""
        teacher = self._teacher()
        return teacher.bytes / row.bytes if teacher else None

    def _teacher(self) -> Row | None:
        wanted = (row for row in self.rows if (row.candidate.role, row.candidate.precision) == ("teacher", "fp32"))
        return next(wanted, None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: ``rows`` and ``conditions``."""
        return {"rows": [self._row(row) for row in self.rows], "conditions": self.conditions}

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "model": row.candidate.model,
            "role": row.candidate.role,
            "precision": row.candidate.precision,
            "path": str(row.candidate.path),
            "bytes": row.bytes,
            "parameters": row.parameters,
            "p50_ms": row.latency.p50_ms,
            "p90_ms": row.latency.p90_ms,
            "p99_ms": row.latency.p99_ms,
            "images_per_s": row.latency.images_per_s,
            "peak_rss_mb": row.peak_rss_mb,
            "provider": row.provider,
            "times_faster": self.speedup(row),
            "times_smaller": self.shrink(row),
            "samples_ms": list(row.latency.samples_ms),
        }


def compare(
    candidates: Sequence[Candidate],
    size: int,
    threads: int | None = None,
    repeats: int = 100,
    warmup: int = 10,
    batch: int = 1,
    memory: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Measure models in turns in this process, and the memory of each in a process of its own.

    The input is noise, the same for all: pixels do not change the time of a convolution.

    Args:
        candidates: the models.
        size: pixels; all get an input of (batch, 3, size, size).
        threads: of onnxruntime, the same for all; None takes the cores there are, at most 4.
        repeats: timed runs of each.
        warmup: untimed runs of each.
        batch: images a run.
        memory: whether to measure peak memory, which starts one process a model.
        progress: called with (timed runs done, timed runs in all).

    Raises:
        ModelError: no candidate, one cannot be loaded, or it does not take such an input.
    """
    threads = threads or default_threads()
    # Memory first, so that no process of ours competes with the timed runs.
    peaks = [peak_rss_mb(c.path, size, threads, batch) if memory else None for c in candidates]
    noise = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
    sessions = [open_session(candidate.path, threads) for candidate in candidates]
    runs: dict[str, Callable[[], object]] = {
        str(i): _runner(session, noise, candidates[i].path) for i, session in enumerate(sessions)
    }
    times = measure(runs, repeats, warmup, batch, progress)
    rows = tuple(
        Row(
            candidate,
            candidate.path.stat().st_size,
            candidate.parameters or _parameters(session, candidate.path),
            times[str(i)],
            peaks[i],
            session.get_providers()[0],
        )
        for i, (candidate, session) in enumerate(zip(candidates, sessions, strict=True))
    )
    measured = {"threads": threads, "batch": batch, "size": size, "repeats": repeats, "warmup": warmup}
    providers = sorted({row.provider for row in rows})
    return Comparison(rows, {**conditions(), **measured, "providers": providers})


def _runner(session: Any, batch: np.ndarray[Any, Any], path: Path) -> Callable[[], object]:
    feed = {session.get_inputs()[0].name: batch}
    outputs = [session.get_outputs()[0].name]

    def run() -> object:
        return session.run(outputs, feed)

    try:
        run()
    except Exception as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"{path}: it cannot run on an input of {batch.shape} ({first}).") from error
    return run


def _parameters(session: Any, path: Path) -> int | None:
    metadata = session.get_modelmeta().custom_metadata_map
    return ModelCard.from_metadata(metadata, path).parameters or None if METADATA_KEY in metadata else None
