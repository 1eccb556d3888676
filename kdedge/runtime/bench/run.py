"""``kdedge bench`` as a function: everything that can be measured of a few files on this machine, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kdedge.errors import DataError
from kdedge.progress import Bars, no_bars
from kdedge.runtime.bench.energy import NOT_ASKED, Energy, measure_energy
from kdedge.runtime.bench.input import feed_of, runner
from kdedge.runtime.bench.overhead import Overhead, overhead
from kdedge.runtime.bench.stages import Stages, stages, synthetic_photograph
from kdedge.runtime.bench.start import ColdStart, cold_start, engine_build_seconds, start
from kdedge.runtime.bench.sweep import Cell, sweep
from kdedge.runtime.compare import Candidate, Comparison, compare
from kdedge.runtime.power import energy_sensor
from kdedge.runtime.session import default_threads, open_session

__all__ = ["PHOTOGRAPHS", "Bench", "Plan", "run_bench"]

PHOTOGRAPHS = ((640, 480), (4000, 3000))
"""Width and height of the images that are made where none is given."""

PAIRS = 500
FORMAT = 2
"""Of the JSON; 1 had rows and conditions alone."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        candidates: the files, as for :func:`kdedge.runtime.compare.compare`.
        size: pixels.
        model: the file with a card whose stages and overhead are measured; None leaves them out.
        provider: what all run on, not ``auto``.
        threads: of onnxruntime; None takes the cores there are, at most 4.
        repeats, min_seconds: timed runs and seconds of each file, at least.
        processes: fresh processes of each file for the cold start; 0 leaves the steps out and measures the memory alone.
        images: files for the stages; none takes photographs that are made up, of :data:`PHOTOGRAPHS`.
        sweep_batches, sweep_threads: of the sweep; both empty leave it out.
        energy: whether to measure it where a counter can be read.
        engine_build: whether to build TensorRT's engines once more to time it.
    """

    candidates: tuple[Candidate, ...]
    size: int
    model: Path | None = None
    provider: str = "cpu"
    threads: int | None = None
    repeats: int = 100
    min_seconds: float = 0.0
    processes: int = 3
    images: tuple[Path, ...] = ()
    sweep_batches: tuple[int, ...] = ()
    sweep_threads: tuple[int, ...] = ()
    energy: bool = True
    engine_build: bool = False


@dataclass(frozen=True)
class Bench:
    """What was measured; lists by candidate are in the order of the plan's, empty where it was left out.

    Attributes:
        comparison: latency, size, memory, conditions and warnings.
        starts: cold starts of each candidate.
        stages: of each image.
        overhead: None where it was left out.
        sweep: cells in the order they were measured.
        energy: index of a candidate to what it used.
        energy_source: name and scope of the counter; empty without one.
        energy_reason: why there is none; empty with one.
        engine_build_s: seconds TensorRT took for each candidate.
    """

    comparison: Comparison
    starts: tuple[ColdStart, ...] = ()
    stages: tuple[Stages, ...] = ()
    overhead: Overhead | None = None
    sweep: tuple[Cell, ...] = ()
    energy: dict[int, Energy] = field(default_factory=dict)
    energy_source: str = ""
    energy_reason: str = ""
    engine_build_s: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with every sample; what was not measured is null or empty."""
        found = {"format": FORMAT, **self.comparison.to_dict()}
        for place, row in enumerate(found["rows"]):
            samples = row.pop("samples_ms")
            row["cold_start"] = self.starts[place].to_dict() if self.starts else None
            row["energy"] = self.energy[place].to_dict() if place in self.energy else None
            row["engine_build_s"] = self.engine_build_s[place] if self.engine_build_s else None
            row["samples_ms"] = samples
        found["overhead"] = self.overhead.to_dict() if self.overhead else None
        found["stages"] = [each.to_dict() for each in self.stages]
        found["sweep"] = [cell.to_dict() for cell in self.sweep]
        found["energy"] = {"source": self.energy_source or None, "reason": self.energy_reason or None}
        return found


def run_bench(plan: Plan, bars: Bars = no_bars, say: Callable[[str], None] | None = None) -> Bench:
    """Measure all that a plan asks for. The timed runs come first among what runs in this process, when it is coolest.

    Args:
        plan: what to measure.
        bars: shows how far each part is.
        say: told in one line what takes long.

    Raises:
        ModelError, CardError: see :func:`kdedge.runtime.compare.compare`.
        DataError: an image cannot be decoded.
    """
    threads = plan.threads or default_threads()
    for image in plan.images:
        if not image.is_file():
            raise DataError(f"{image}: no such image file.")
    built = _engines(plan, threads, bars)
    with bars("cold start") as progress:
        starts = []
        for place, candidate in enumerate(plan.candidates):
            if plan.processes:
                starts.append(cold_start(candidate.path, plan.size, threads, plan.processes, plan.provider))
            else:  # for the memory alone
                starts.append(ColdStart((start(candidate.path, plan.size, threads, provider=plan.provider),)))
            progress(place + 1, len(plan.candidates))
    with bars("latency") as progress:
        found = compare(
            plan.candidates,
            plan.size,
            threads,
            plan.repeats,
            memory=False,
            progress=progress,
            provider=plan.provider,
            min_seconds=plan.min_seconds,
            say=say,
        )
    rows = tuple(replace(row, peak_rss_mb=its.peak_rss_mb) for row, its in zip(found.rows, starts, strict=True))
    around, parts = _classifier(plan, threads, bars)
    cells: Sequence[Cell] = ()
    if plan.sweep_batches or plan.sweep_threads:
        with bars("sweep") as progress:
            cells = sweep(
                plan.candidates,
                plan.size,
                plan.sweep_batches or (1,),
                plan.sweep_threads or (threads,),
                plan.provider,
                progress,
            )
    energy, source, reason = _energy(plan, threads, bars) if plan.energy else ({}, "", NOT_ASKED)
    return Bench(
        replace(found, rows=rows),
        tuple(starts) if plan.processes else (),
        parts,
        around,
        tuple(cells),
        energy,
        source,
        reason,
        built,
    )


def _engines(plan: Plan, threads: int, bars: Bars) -> tuple[float, ...]:
    if not plan.engine_build or plan.provider != "tensorrt":
        return ()
    built = []
    with bars("TensorRT engines") as progress:
        for place, candidate in enumerate(plan.candidates):
            built.append(engine_build_seconds(candidate.path, plan.size, threads))
            progress(place + 1, len(plan.candidates))
    return tuple(built)


def _classifier(plan: Plan, threads: int, bars: Bars) -> tuple[Overhead | None, tuple[Stages, ...]]:
    if plan.model is None:
        return None, ()
    with bars("overhead") as progress:
        around = overhead(plan.model, threads, plan.provider, min(PAIRS, 5 * plan.repeats), progress)
    found = []
    with TemporaryDirectory(prefix="kdedge-") as folder, bars("stages") as progress:
        images = {path: path.name for path in plan.images}
        if not images:
            for width, height in PHOTOGRAPHS:
                name = f"synthetic {width}x{height}"
                images[synthetic_photograph(Path(folder) / f"{width}.jpg", width, height)] = name
        for place, (path, name) in enumerate(images.items()):
            found.append(stages(plan.model, path, threads, plan.provider, plan.repeats, name))
            progress(place + 1, len(images))
    return around, tuple(found)


def _energy(plan: Plan, threads: int, bars: Bars) -> tuple[dict[int, Energy], str, str]:
    sensor, reason = energy_sensor(gpu=plan.provider in ("cuda", "tensorrt"))
    if sensor is None:
        return {}, "", reason
    sessions = [open_session(candidate.path, threads, provider=plan.provider) for candidate in plan.candidates]
    feeds = [feed_of(session, plan.size, 1, plan.candidates[i].path) for i, session in enumerate(sessions)]
    runs = {str(i): runner(session, feeds[i], plan.candidates[i].path) for i, session in enumerate(sessions)}
    with bars("energy") as progress:
        found, reason = measure_energy(runs, {str(i): feed.batch for i, feed in enumerate(feeds)}, sensor, progress)
    source = f"{sensor.name} ({sensor.scope})" if found else ""
    return {int(key): value for key, value in found.items()}, source, reason
