"""A model in a fresh process: how long until its first answer, step by step, and how much memory it took at most."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdedge.errors import ModelError
from kdedge.runtime.bench.child import MARK

__all__ = ["STEPS", "ColdStart", "Start", "cold_start", "engine_build_seconds", "start"]

STEPS = ("interpreter", "numpy", "cv2", "onnxruntime", "kdedge", "session", "first run")
"""In the order they happen."""

RUNS = 5
"""Runs in each process, for the memory."""


@dataclass(frozen=True)
class Start:
    """One process.

    Attributes:
        ms: milliseconds of each of :data:`STEPS`.
        peak_rss_mb: highest resident memory after :data:`RUNS` runs, 10^6 bytes; None where the system does not say.
        provider: what the session was made with.
    """

    ms: Mapping[str, float]
    peak_rss_mb: float | None
    provider: str


@dataclass(frozen=True)
class ColdStart:
    """Several processes of one model, each alone on the machine."""

    starts: tuple[Start, ...]

    @property
    def total_ms(self) -> float:
        """Median time from the call of the interpreter to the first answer, milliseconds."""
        return statistics.median(sum(start.ms.values()) for start in self.starts)

    @property
    def peak_rss_mb(self) -> float | None:
        """Median of the processes' highest memory, 10^6 bytes."""
        peaks = [start.peak_rss_mb for start in self.starts if start.peak_rss_mb is not None]
        return statistics.median(peaks) if peaks else None

    def step_ms(self, step: str) -> float:
        """Median milliseconds of one of :data:`STEPS`."""
        return statistics.median(start.ms[step] for start in self.starts)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with every process."""
        return {
            "total_ms": self.total_ms,
            "steps_ms": {step: self.step_ms(step) for step in STEPS},
            "samples": [{"ms": dict(start.ms), "peak_rss_mb": start.peak_rss_mb} for start in self.starts],
        }


def start(
    path: str | Path,
    size: int,
    threads: int,
    batch: int = 1,
    provider: str = "cpu",
    environ: Mapping[str, str] | None = None,
) -> Start:
    """Start a Python that loads kdedge's runtime and runs a model a few times.

    Args:
        path: ONNX file with one input (B, 3, size, size).
        size: pixels.
        threads: of onnxruntime.
        batch: images a run; a file that fixes another number gets its own.
        provider: see :data:`kdedge.runtime.providers.PROVIDERS`.
        environ: environment variables; None passes on those of this process.

    Raises:
        ModelError: the process failed; its last words are quoted.
    """
    arguments = [str(path), str(size), str(threads), str(batch), provider, str(RUNS)]
    code = (
        "import time; begun = time.monotonic_ns(); import sys; called = int(sys.argv.pop(1)); "
        f"sys.path[:] = {sys.path!r}; from kdedge.runtime.bench.child import main; main(called, begun, sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(time.monotonic_ns()), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ if environ is None else environ),
    )
    answers = [line[len(MARK) :] for line in done.stdout.splitlines() if line.startswith(MARK)]
    said = json.loads(answers[-1]) if answers else {}
    if done.returncode or "ms" not in said or "error" in said:
        last = [said["error"]] if "error" in said else done.stderr.strip().splitlines()[-1:]
        raise ModelError(f"{path}: running it in a process of its own failed ({(last or ['no message'])[0]}).")
    peak = said["peak_bytes"]
    return Start(said["ms"], peak / 1e6 if peak else None, said["provider"])


def cold_start(
    path: str | Path, size: int, threads: int, processes: int, provider: str = "cpu", batch: int = 1
) -> ColdStart:
    """Start several processes one after the other; one more before them, untimed, brings the files into the page cache.

    Raises:
        ModelError: see :func:`start`; or no process is asked for.
    """
    if processes < 1:
        raise ModelError(f"{processes} processes were asked for; at least 1 is needed.")
    found = [start(path, size, threads, batch, provider) for _ in range(processes + 1)]
    return ColdStart(tuple(found[1:]))


def engine_build_seconds(path: str | Path, size: int, threads: int, batch: int = 1) -> float:
    """Seconds that TensorRT takes to build its engine: session and first run of a process whose cache is empty.

    Raises:
        ModelError: see :func:`start`.
    """
    with tempfile.TemporaryDirectory(prefix="kdedge-engine-") as folder:
        found = start(path, size, threads, batch, "tensorrt", {**os.environ, "KDEDGE_CACHE": folder})
    return (found.ms["session"] + found.ms["first run"]) / 1000.0
