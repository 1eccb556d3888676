"""Runs of the command in processes that die at a given moment, and what of a run may not depend on that.

Children are forked from a server that has loaded the commands already, so that a run takes a second; each dies for real.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdedge.training.checkpoint import read_about
from kdedge.training.loop import LoopConfig
from kdedge.training.run import Run, load_run

STEPS = 30

SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Moment:
    """The ``call``-th call of a function (0: never); signals come ``before`` or ``after`` it, or when ``half`` is written."""

    function: str
    call: int
    when: str = "before"
    signals: tuple[int, ...] = (signal.SIGKILL,)


NEVER = Moment("pathlib.Path.replace", 0)


def child(words: list[str], cache: str, said: str, moment: Moment, save_every: float, rows: int) -> None:
    """``kdedge WORDS`` in a process of its own; every file that takes its name is listed beside ``said``.

    Args:
        rows: of a shard of activations.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
    os.environ["KDEDGE_CACHE"] = cache
    os.environ["OMP_NUM_THREADS"] = "1"
    screen = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(screen, 1)
    os.dup2(screen, 2)

    from kdedge.cli import main
    from kdedge.training import activations, distill_setup

    activations.SHARD_ROWS = rows
    distill_setup.LoopConfig = lambda *given, **named: LoopConfig(*given, **named, save_every=save_every)
    replace = Path.replace

    def listed(self: Path, target: Path) -> Path:
        with Path(said + ".files").open("a") as file:
            file.write(f"{Path(target).name}\n")
        return replace(self, target)

    Path.replace = listed
    meet(moment)
    sys.argv = ["kdedge", *words]
    main()


def meet(moment: Moment) -> None:
    """Arrange for the moment."""
    module, _, name = moment.function.rpartition(".")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        module, _, kind = module.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    original, calls = getattr(owner, name), 0

    def hurt() -> None:
        for number in moment.signals:
            os.kill(os.getpid(), number)

    def watched(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment.call and moment.when == "before":
            hurt()
        found = original(*given, **named)
        if calls == moment.call and moment.when == "half":
            whole = Path(given[1]).read_bytes()
            Path(given[1]).write_bytes(whole[: len(whole) // 2])
            hurt()
        if calls == moment.call and moment.when == "after":
            hurt()
        return found

    setattr(owner, name, watched)


@dataclass(frozen=True)
class Place:
    """Where one run lives."""

    home: Path
    material: Path

    @property
    def run(self) -> Run:
        return Run(self.home / "run")

    @property
    def files(self) -> list[str]:
        """Names of the files in the order in which they were finished."""
        return Path(self.said_at + ".files").read_text().splitlines()

    @property
    def said(self) -> str:
        return Path(self.said_at).read_text()

    @property
    def said_at(self) -> str:
        return str(self.home / "said.txt")

    def words(self) -> list[str]:
        options = {
            "--teacher": f"onnx:{self.material / 'teacher.onnx'}",
            "--student": "timm/test_resnet",
            "--student-weights": "random",
            "--size": "32",
            "--transfer": str(self.material / "transfer"),
            "--data": str(self.material / "labelled"),
            "--train-views": "2",
            "--steps": str(STEPS),
            "--batch": "8",
            "--precision": "fp32",
            "--layout": "contiguous",
            "--out": str(self.run.path),
        }
        return ["distill", *(word for pair in options.items() for word in pair)]

    def begin(
        self, moment: Moment = NEVER, save_every: float = 0.0, words: list[str] | None = None, rows: int = 16
    ) -> multiprocessing.Process:
        given = (words or self.words(), str(self.home / "cache"), self.said_at, moment, save_every, rows)
        process = SERVER.Process(target=child, args=given)
        process.start()
        return process

    def status(self, *given: Any, **named: Any) -> int | None:
        """Exit status of what :meth:`begin` begins."""
        process = self.begin(*given, **named)
        process.join(120)
        assert not process.is_alive()
        return process.exitcode

    def resume(self) -> None:
        """Go on with the command that began it; it begins anew if nothing was there."""
        assert self.status(words=[*self.words(), "--resume"]) == 0, self.said


def outcome(run: Run) -> dict[str, Any]:
    """What may not depend on interruptions: weights, scores, records (but for speed, and losses averaged since the start)."""
    free = {"seconds", "images_per_s", "data_wait", "loss"}
    names = ("last", "best", "imitation", "targets")
    return {
        "weights": {name: getattr(run, name).read_bytes() for name in names},
        "about": {name: {**read_about(getattr(run, name)), "elapsed": None} for name in names if name != "imitation"},
        "records": [{key: value for key, value in r.items() if key not in free} for r in run.history()],
        "scores": load_run(run.path).card.scores,
        "images": run.images.read_bytes(),
        "files": sorted(str(file.relative_to(run.path)) for file in run.path.rglob("*")),
    }


def same(one: Run, other: Run) -> None:
    first, second = outcome(one), outcome(other)
    assert first.keys() == second.keys()
    assert [key for key in first if first[key] != second[key]] == []
