"""What is left open before a distillation is settled here: by rules, or by measuring on this machine."""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.errors import RunError
from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank
from kdedge.training.checkpoint import below, load_weights, save_tensors
from kdedge.training.config import DistillConfig
from kdedge.training.engine import Engine, usable_cores
from kdedge.training.feed import pixels_of
from kdedge.training.inference import as_input
from kdedge.training.loop import LoopConfig
from kdedge.training.losses import NORMALISED
from kdedge.training.regressor import Regressor
from kdedge.training.run import Run
from kdedge.training.students import Student
from kdedge.training.targets import Standardize, Targets, targets_from, targets_named
from kdedge.training.teachers import Teacher
from kdedge.training.tune import tune

__all__ = ["fit_targets", "loop_of", "settle_rules", "settle_speed"]

Say = Callable[[str], None]

FITTED = 65_536
"""Views that means, deviations and rotations are fitted on, at most."""

MEASURED = 16
"""Images of a step that is timed, at most: what is faster shows on few."""


def settle_rules(config: DistillConfig, engine: Engine) -> DistillConfig:
    """Batch and learning rate, where they were left open.

    Raises:
        RunError: the batch cannot be shared by the processes, two images to each at least.
    """
    if config.threads > 4 * usable_cores():
        raise RunError(
            f"--threads is {config.threads}; this machine has {usable_cores()} cores to use, give fewer, or auto."
        )
    batch = config.batch or (256 if engine.device.type == "cuda" else 32)
    if batch % engine.world or batch // engine.world < 2:
        raise RunError(
            f"--batch {batch} cannot be shared by {engine.world} processes; give a multiple of {engine.world}, "
            "at least twice it."
        )
    return replace(config, batch=batch, lr=config.lr or 3e-3 * math.sqrt(batch / 32))


def settle_speed(
    config: DistillConfig,
    engine: Engine,
    student: Student,
    dim: int,
    bank: ViewBank,
    rows: NDArray[np.int64],
    preprocess: Preprocess,
    say: Say,
) -> tuple[DistillConfig, Engine]:
    """Precision, memory layout, threads and compilation: as given, or measured on a copy of the student."""
    if config.threads:
        torch.set_num_threads(config.threads)
    engine = replace(engine, channels_last=config.layout != "contiguous", compiled=config.compile == "on")
    open_ = "auto" in (config.precision, config.layout) or not config.threads
    if open_ or (config.compile == "auto" and engine.device.type == "cuda"):
        probe = Regressor(copy.deepcopy(student.trunk), student.dim, dim, normalised=config.loss in NORMALISED).train()
        shown = pixels_of(bank.views, rows[: min(MEASURED, config.batch)], engine.device)

        def step(trial: Engine) -> None:
            trial.place(probe)
            with trial.autocast():
                loss = (torch.compile(probe) if trial.compiled else probe)(as_input(shown, preprocess, trial))
            loss.float().square().mean().backward()

        with torch.random.fork_rng():  # dropout must not change what is trained later
            tuned = tune(
                engine,
                step,
                config.precision,
                compiled={"on": True, "off": False, "auto": None}[config.compile],
                layout=config.layout,
                fixed_threads=bool(config.threads) or "OMP_NUM_THREADS" in os.environ,
            )
        if tuned.milliseconds:
            chosen = "channels_last" if tuned.engine.channels_last else "contiguous"
            say(f"measured: {tuned.words()}; taken: {tuned.engine.precision} {chosen}, {tuned.threads} threads")
        tuned_engine, tuned_threads = engine.agree((tuned.engine, tuned.threads))
        torch.set_num_threads(tuned_threads)
        engine = replace(tuned_engine, device=engine.device)
    settled = replace(
        config,
        precision=engine.precision if config.precision == "auto" else config.precision,
        layout="channels_last" if engine.channels_last else "contiguous",
        compile="on" if engine.compiled else "off",
        threads=torch.get_num_threads(),
    )
    return settled, replace(engine, precision=settled.precision)


def loop_of(config: DistillConfig, engine: Engine, count: int, say: Say) -> LoopConfig:
    """Settings of the loop for ``count`` views of all processes together; says what they are."""
    seconds = 60.0 * config.minutes if config.minutes else None
    steps = config.steps
    if seconds is None and steps is None:
        items = min(config.epoch_images or count, count)
        steps = max(1, round((config.epochs or 10.0) * items / config.batch))
    length = f"{steps:,} steps" if steps else f"{seconds:.0f} s"
    processes = f", {engine.world} processes" if engine.world > 1 else ""
    say(
        f"training: {length}, batches of {config.batch}, on {engine.device.type} in {engine.precision}{processes}, "
        f"{config.optimizer} lr {config.lr:.3g} {config.schedule}, loss {config.loss} on {config.targets} targets, "
        f"{count:,} views"
    )
    return LoopConfig(
        steps,
        seconds,
        config.batch,
        config.lr,
        config.weight_decay,
        evaluations=config.evaluations,
        seed=config.seed,
        optimizer=config.optimizer,
        schedule=config.schedule,
    )


def fit_targets(
    config: DistillConfig, teacher: Teacher, bank: ViewBank, rows: NDArray[np.int64], engine: Engine, run: Run
) -> tuple[Targets, Standardize]:
    """What the student regresses, and the standardised activations it is measured by; the same on all processes.

    They are kept in the run, and a resumed one takes them from there: fitted again, on another machine or by another number
    of processes, they could be others.
    """
    if engine.agree(run.targets.is_file()):  # the main process may write it before others look
        kept = {key: value.numpy() for key, value in load_weights(run.targets).items()}
        targets, measure = (targets_from(below(kept, part)) for part in ("targets.", "yardstick."))
        assert isinstance(measure, Standardize)
        return (measure if isinstance(targets, Standardize) and config.targets != "raw" else targets), measure
    targets, measure = _fitted(config, teacher, bank, rows, engine)
    if engine.main:
        arrays = {f"targets.{key}": value for key, value in targets.to_arrays().items()}
        arrays |= {f"yardstick.{key}": value for key, value in measure.to_arrays().items()}
        save_tensors(run.targets, {key: torch.from_numpy(value) for key, value in arrays.items()}, {})
    engine.wait()
    return targets, measure


def _fitted(
    config: DistillConfig, teacher: Teacher, bank: ViewBank, rows: NDArray[np.int64], engine: Engine
) -> tuple[Targets, Standardize]:
    if config.loss == "bce" and getattr(teacher, "concepts", False):
        identity = Standardize.identity(teacher.dim)
        return identity, identity
    chosen = rows
    if len(rows) > FITTED:
        chosen = np.sort(np.random.default_rng((config.seed, 4)).choice(rows, FITTED // engine.world, replace=False))
    activations = bank.activations[chosen]
    if bank.blocks is not None:  # each process knows its own shards alone
        activations = np.concatenate(engine.everyone(activations))
    yardstick = Standardize.fit(activations)
    if config.targets == "standardize":
        return yardstick, yardstick
    return targets_named(config.targets, activations), yardstick
