"""Networks beside each other on one machine: the rows of ``kdedge bench``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.progress import Progress
from kdedge.runtime.bench.input import feed_of, runner
from kdedge.runtime.bench.quiet import Watch
from kdedge.runtime.bench.single_stream import single_stream
from kdedge.runtime.conditions import conditions, runtime_build
from kdedge.runtime.latency import Latency, measure
from kdedge.runtime.memory import peak_rss_mb
from kdedge.runtime.providers import provider_of
from kdedge.runtime.session import default_threads, open_session

__all__ = ["Candidate", "Comparison", "Row", "compare"]


@dataclass(frozen=True)
class Candidate:
    """A model to measure.

    Attributes:
        model: how it is called in the table.
        precision: ``fp32``, ``int8`` or ``fp16``.
        path: ONNX file with one input (B, 3, size, size).
        parameters: number of weights; None takes what the file's card says, if it has one.
        role: ``student`` or ``teacher``; ratios are taken to the first teacher of a precision.
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
        latency: times, every sample kept; its ``batch`` is the file's own where that is fixed.
        peak_rss_mb: highest memory of a fresh process that runs it, 10^6 bytes; None if it was not measured.
        provider: what really ran it: ``cpu``, ``cuda``, ``tensorrt`` or ``xnnpack``.
    """

    candidate: Candidate
    bytes: int
    parameters: int | None
    latency: Latency
    peak_rss_mb: float | None
    provider: str


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of the candidates, on what they were measured, and what disturbed that."""

    rows: tuple[Row, ...]
    conditions: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def speedup(self, row: Row, precision: str = "fp32") -> float | None:
        """How many times faster (median time an image) than the teacher of that precision; None without one."""
        teacher = self._teacher(precision)
        return _image_ms(teacher) / _image_ms(row) if teacher else None

    def shrink(self, row: Row, precision: str = "fp32") -> float | None:
        """How many times smaller (bytes) than the teacher of that precision; None without one."""
        teacher = self._teacher(precision)
        return teacher.bytes / row.bytes if teacher else None

    def _teacher(self, precision: str) -> Row | None:
        wanted = (row for row in self.rows if (row.candidate.role, row.candidate.precision) == ("teacher", precision))
        return next(wanted, None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: ``rows``, ``conditions`` and ``warnings``."""
        return {
            "rows": [self._row(row) for row in self.rows],
            "conditions": self.conditions,
            "warnings": list(self.warnings),
        }

    def _row(self, row: Row) -> dict[str, Any]:
        time = row.latency
        return {
            "model": row.candidate.model,
            "role": row.candidate.role,
            "precision": row.candidate.precision,
            "path": str(row.candidate.path),
            "bytes": row.bytes,
            "parameters": row.parameters,
            "batch": time.batch,
            "p50_ms": time.p50_ms,
            "p90_ms": time.p90_ms,
            "p99_ms": time.p99_ms,
            "mean_ms": time.mean_ms,
            "images_per_s": time.images_per_s,
            "single_stream": single_stream(time.samples_ms).to_dict() if time.batch == 1 else None,
            "peak_rss_mb": row.peak_rss_mb,
            "provider": row.provider,
            "times_faster": self.speedup(row),
            "times_smaller": self.shrink(row),
            "times_faster_int8": self.speedup(row, "int8"),
            "times_smaller_int8": self.shrink(row, "int8"),
            "samples_ms": list(time.samples_ms),
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
    *,
    provider: str = "cpu",
    min_seconds: float = 0.0,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Measure models in turns in this process, and the memory of each in a process of its own.

    The input is noise, the same for all: pixels do not change the time of a convolution. It lies in ordinary memory, so the
    time on a GPU holds the copies there and back.

    Args:
        candidates: the models.
        size: pixels; all get an input of (batch, 3, size, size).
        threads: of onnxruntime, the same for all; None takes the cores there are, at most 4.
        repeats: timed runs of each, at least.
        warmup: untimed runs of each.
        batch: images a run; a file that fixes another number is timed at its own.
        memory: whether to measure peak memory, which starts one process a model.
        progress: called with (timed runs done, timed runs in all).
        provider: the same for all, see :data:`kdedge.runtime.providers.PROVIDERS`; nothing takes over where it cannot be had.
        min_seconds: timed seconds of each, at least.
        say: told in one line what takes long (the first TensorRT engine).

    Raises:
        ModelError: no candidate, one cannot be loaded, it does not take such an input, or the provider cannot be had.
    """
    threads = threads or default_threads()
    known = conditions()
    # Memory first, so that no process of ours competes with the timed runs.
    peaks = [peak_rss_mb(c.path, size, threads, batch, provider) if memory else None for c in candidates]
    sessions = [open_session(candidate.path, threads, provider=provider, say=say) for candidate in candidates]
    feeds = [feed_of(session, size, batch, c.path) for session, c in zip(sessions, candidates, strict=True)]
    runs = {str(i): runner(session, feeds[i], candidates[i].path) for i, session in enumerate(sessions)}
    batches = {str(i): feed.batch for i, feed in enumerate(feeds)}
    watch = Watch(known)
    times = measure(runs, repeats, warmup, batches, progress, min_seconds=min_seconds)
    seen = watch.end()
    rows = tuple(
        Row(
            candidate,
            candidate.path.stat().st_size,
            candidate.parameters or _parameters(session, candidate.path),
            times[str(i)],
            peaks[i],
            provider_of(session),
        )
        for i, (candidate, session) in enumerate(zip(candidates, sessions, strict=True))
    )
    providers = sorted({row.provider for row in rows})
    measured = {
        "threads": threads,
        "batch": batch,
        "size": size,
        "repeats": repeats,
        "min_seconds": min_seconds,
        "warmup": warmup,
        "providers": providers,
        "build": runtime_build(providers),
    }
    spread = [(f"{row.candidate.model} {row.candidate.precision}", row.latency) for row in rows]
    return Comparison(rows, {**known, **measured, "during": seen.to_dict()}, tuple(seen.warnings(known, spread)))


def _image_ms(row: Row) -> float:
    return row.latency.p50_ms / row.latency.batch


def _parameters(session: Any, path: Path) -> int | None:
    metadata = session.get_modelmeta().custom_metadata_map
    return ModelCard.from_metadata(metadata, path).parameters or None if METADATA_KEY in metadata else None
