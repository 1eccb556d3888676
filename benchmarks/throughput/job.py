"""One side of the comparison, done in a process of its own: ``python -m benchmarks.throughput.job JOB.json``."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdedge.data.folder import find_images
from kdedge.errors import KdedgeError, RunError
from kdedge.files import write_json
from kdedge.progress import Progress

__all__ = ["SIDES", "Job", "do", "run"]

ROOT = Path(__file__).parents[2]
OnStep = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        side: ``paper`` or ``kdedge``.
        transfer: folder of ``images`` images.
        weights: of the teacher; the student's are random.
        epochs: passes over the images.
        workers: of the paper's way; ``views`` and the precisions: of kdedge.
        profile: look at the kernels of some steps; such a training's seconds mean nothing.
    """

    side: str
    transfer: str
    images: int
    teacher: str
    student: str
    weights: str = "random"
    size: int = 224
    epochs: int = 10
    batch: int = 32
    views: int = 2
    workers: int = 2
    augment: str = "default"
    precision: str = "auto"
    teacher_precision: str = "auto"
    profile: bool = False

    @property
    def steps(self) -> int:
        """Of the training; an epoch's last, incomplete batch is dropped."""
        return self.epochs * (self.images // self.batch)


def run(job: Job, threads: int) -> dict[str, Any]:
    """Do a job in a process of its own, with an empty cache and a number of threads; what :func:`do` returns.

    Raises:
        RunError: it failed; what it said is on stderr.
    """
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "job.json"
        write_json(file, asdict(job))
        surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "KDEDGE_CACHE": str(Path(home) / "cache")}
        command = [sys.executable, "-m", "benchmarks.throughput.job", str(file)]
        done = subprocess.run(command, env=surroundings, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RunError(f"the {job.side} side ended with exit code {done.returncode}; what it said stands above.")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def do(job: Job, home: Path) -> dict[str, Any]:
    """Do a job here, with ``home`` to write to: what it took, as plain JSON values. Libraries are loaded untimed."""
    import timm  # noqa: F401  # both sides load it when they build networks
    import torch
    import torchvision  # noqa: F401

    from benchmarks.throughput.kernels import Window, kernel_shares, read_trace
    from kdedge.training.engine import set_threads

    set_threads()
    side, trace = SIDES[job.side](job, home), home / "trace.json"
    before = _cpu_seconds()
    found = side(Window(trace) if job.profile else lambda _: None)
    cuda = torch.cuda.is_available()
    return {
        "side": job.side,
        "images": job.steps * job.batch,
        **found,
        "cpu_s": _cpu_seconds() - before,
        "peak_mb": _peak_mb(),
        "worker_peak_mb": _megabytes(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss),
        "gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6 if cuda else None,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        **({"profile": kernel_shares(read_trace(trace))} if job.profile else {}),
    }


def _papers_side(job: Job, home: Path) -> Callable[[OnStep], dict[str, Any]]:  # noqa: ARG001
    from benchmarks.throughput.papers_way import train_papers_way
    from kdedge.training.augment import Augment

    def timed(on_step: OnStep) -> dict[str, Any]:
        done = train_papers_way(
            find_images(job.transfer),
            teacher=job.teacher,
            student=job.student,
            weights=job.weights,
            size=job.size,
            batch=job.batch,
            epochs=job.epochs,
            augment=Augment.named(job.augment),
            workers=job.workers,
            on_step=on_step,
        )
        trained = sum(done.epochs)
        return {
            "seconds": {"prepare": done.prepare, "distill": trained},
            "epoch_s": list(done.epochs),
            "data_wait": done.waited / trained,
            "precision": "fp32",
        }

    return timed


def _kdedge_side(job: Job, home: Path) -> Callable[[OnStep], dict[str, Any]]:
    """The call that ``kdedge distill`` makes; evaluations and writing the run directory are part of it."""
    from kdedge.training.augment import Augment
    from kdedge.training.config import DistillConfig, read_config
    from kdedge.training.distill import distill

    config = DistillConfig(
        teacher=job.teacher,
        student=job.student,
        out=str(home / "run"),
        transfer=job.transfer,
        steps=job.steps,
        size=job.size,
        batch=job.batch,
        views=job.views,
        heldout=max(DistillConfig.heldout, min(0.4, 8 / job.images)),
        student_weights="random",
        teacher_weights=job.weights,
        teacher_size=job.size,
        precision=job.precision,
        teacher_precision=job.teacher_precision,
        augment=Augment.named(job.augment),
    )

    def timed(on_step: OnStep) -> dict[str, Any]:
        @contextmanager
        def bars(title: str) -> Iterator[Progress]:
            def advance(done: int, total: int, /, note: str = "") -> None:  # noqa: ARG001
                if title.startswith("Distilling"):
                    on_step(done)

            yield advance

        begun = time.perf_counter()
        done = distill(config, bars=bars, say=lambda text: print(text, file=sys.stderr, flush=True))
        wall = time.perf_counter() - begun
        speeds = [record for record in done.run.history() if "data_wait" in record]
        return {
            "seconds": {**done.seconds, "rest": max(0.0, wall - sum(done.seconds.values()))},
            "data_wait": speeds[-1]["data_wait"] if speeds else None,
            "step_images_per_s": speeds[-1]["images_per_s"] if speeds else None,
            "precision": read_config(done.run.config).precision,
            "teacher_precision": read_config(done.run.config).teacher_precision,
        }

    return timed


SIDES: dict[str, Callable[[Job, Path], Callable[[OnStep], dict[str, Any]]]] = {
    "paper": _papers_side,
    "kdedge": _kdedge_side,
}
"""Each loads what it needs and returns what is to be timed; that returns its seconds by step."""


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mb() -> float:
    """Highest resident memory, 10^6 bytes. Linux's ru_maxrss begins with the parent's peak; VmHWM does not."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")) / 1e6
    except (OSError, StopIteration):
        return _megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _megabytes(maxrss: int) -> float:
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        write_json(given, do(Job(**json.loads(given.read_text(encoding="utf-8"))), given.parent))
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
