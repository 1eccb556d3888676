"""The training loop: step, loss, schedule, averaged weights, evaluation, checkpoint, in one place.

Distillation and the baselines differ in their model and loss only; both are trained here.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdedge.errors import RunError
from kdedge.progress import Progress
from kdedge.training.engine import Engine
from kdedge.training.schedule import SCHEDULES, rate

__all__ = ["OPTIMIZERS", "LoopConfig", "LossOf", "Trained", "TrainingState", "parameter_groups", "train"]

Indices = NDArray[np.int64]
Metrics = dict[str, float]
LossOf = Callable[[nn.Module, Indices, int], Tensor]
"""The model, the indices of a batch and the number of finished epochs to a scalar loss."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop; exactly one of ``steps`` and ``seconds`` is given.

    Attributes:
        lr: peak learning rate.
        optimizer: ``adamw``, or ``adam`` (the paper's, whose weight decay is an L2 penalty).
        schedule: ``cosine`` (with warm-up), ``inverse-sqrt`` (lr / sqrt(1 + epoch), the paper's) or ``constant``.
        clip: largest norm of the gradient.
        ema: limit of the decay of the averaged weights; early on the decay is (1 + n) / (10 + n).
        evaluations: how often the averaged model is evaluated, the end included.
        save_every: seconds between two checkpoints.
    """

    steps: int | None = None
    seconds: float | None = None
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 2.0
    ema: float = 0.99
    evaluations: int = 4
    save_every: float = 60.0
    seed: int = 0
    optimizer: str = "adamw"
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise RunError("give either a number of steps (or epochs) or a time to train for, not both.")
        if (self.steps or 1) < 1 or (self.seconds or 1) <= 0 or self.batch < 2:
            raise RunError("steps, time and batch must be positive, and a batch needs at least 2 images (BatchNorm).")
        if self.optimizer not in OPTIMIZERS:
            raise RunError(f"unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        if self.schedule not in SCHEDULES:
            raise RunError(f"unknown schedule {self.schedule!r}; choose one of {', '.join(SCHEDULES)}.")


@dataclass
class TrainingState:
    """All that a later process needs to go on exactly where this one stopped."""

    model: nn.Module
    averaged: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    elapsed: float = 0.0


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    steps: int
    images: int
    seconds: float
    metrics: Metrics
    history: list[Metrics]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels with weight decay, norms and biases without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def start(model: nn.Module, config: LoopConfig) -> TrainingState:
    """Optimiser and averaged weights for a model that has not been trained yet."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        decay = min(config.ema, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1.0 - decay)

    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=False)  # type: ignore[arg-type]
    optimizer = OPTIMIZERS[config.optimizer](parameter_groups(model, config.weight_decay), lr=config.lr)  # type: ignore[call-arg]
    return TrainingState(model, averaged, optimizer)


def _batches(count: int, config: LoopConfig, step: int) -> Iterator[Indices]:
    """Endless batches from ``step`` on; the order of an epoch depends on the seed and its number alone."""
    size = min(config.batch, count)
    an_epoch = max(1, count // size)
    order: Indices = np.empty(0, np.int64)
    known = -1
    while True:
        epoch, position = divmod(step, an_epoch)
        if epoch != known:
            order = np.random.default_rng((config.seed, epoch)).permutation(count)
            known = epoch
        yield np.sort(order[position * size : (position + 1) * size])
        step += 1


def train(
    state: TrainingState,
    loss_of: LossOf,
    count: int,
    config: LoopConfig,
    engine: Engine,
    evaluate: Callable[[nn.Module], Metrics] | None = None,
    log: Callable[[Metrics], None] | None = None,
    save: Callable[[TrainingState], None] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train ``state.model`` in place.

    Args:
        loss_of: the model, the indices of a batch and the number of finished epochs to a scalar loss.
        count: how many items there are to draw from.
        evaluate: the averaged model to scores; called ``config.evaluations`` times, may change the model's mode and
            BatchNorm statistics.
        log: told one record a step interval and one an evaluation (those hold the scores).
        save: called every ``config.save_every`` seconds and at the end.
        progress: told (done, total) in steps, or in tenths of a second.

    Raises:
        RunError: the loss is no longer finite.
    """
    model, optimizer = state.model, state.optimizer
    history: list[Metrics] = []
    metrics: Metrics = {}
    before, begun = state.elapsed, time.perf_counter()
    saved, recent = begun, []
    an_epoch = max(1, count // min(config.batch, count))
    model.train()

    def done() -> float:
        return state.step / config.steps if config.steps else state.elapsed / (config.seconds or 1.0)

    evaluated = math.floor(done() * config.evaluations)
    for indices in _batches(count, config, state.step):
        share = done()
        if share >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate(config.schedule, share, state.step // an_epoch, config.warmup)
        with engine.autocast():
            loss = loss_of(model, indices, state.step // an_epoch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(
                f"the loss became {value} at step {state.step}; lower the learning rate (now {config.lr:g})."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        state.averaged.update_parameters(model)
        state.step += 1
        now = time.perf_counter()
        state.elapsed = before + now - begun
        recent.append(value)
        if progress:
            if config.steps:
                progress(state.step, config.steps)
            else:
                whole = int(10 * (config.seconds or 0))
                progress(min(int(10 * state.elapsed), whole), whole)
        share = done()
        if log and state.step % min(10, config.steps or 10) == 0:
            lr = float(optimizer.param_groups[0]["lr"])
            log({"step": state.step, "epoch": state.step / an_epoch, "loss": sum(recent) / len(recent), "lr": lr})
            recent = []
        if evaluate and math.floor(min(share, 1.0) * config.evaluations) > evaluated:
            evaluated = math.floor(min(share, 1.0) * config.evaluations)
            metrics = {"step": state.step, "epoch": state.step / an_epoch, "seconds": state.elapsed}
            metrics |= evaluate(state.averaged.module)
            history.append(metrics)
            if log:
                log(metrics)
            state.elapsed = before + time.perf_counter() - begun
            model.train()
        if save and now - saved > config.save_every:
            save(state)
            saved = time.perf_counter()
    if progress and config.seconds:  # the last evaluation may have used up the time that was left
        progress(int(10 * config.seconds), int(10 * config.seconds))
    if save:
        save(state)
    return Trained(state.step, state.step * min(config.batch, count), state.elapsed, metrics, history)
