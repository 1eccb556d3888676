"""The training loop: step, loss, schedule, averaged weights, evaluation, checkpoint, in one place.

Distillation and the baselines differ in their model and loss only; both are trained here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdedge.errors import RunError
from kdedge.progress import Progress
from kdedge.training.clock import Clock, Interrupt
from kdedge.training.engine import Engine
from kdedge.training.order import Order
from kdedge.training.schedule import SCHEDULES, rate

__all__ = ["OPTIMIZERS", "LoopConfig", "LossOf", "Trained", "TrainingState", "parameter_groups", "train"]

Indices = NDArray[np.int64]
Metrics = dict[str, float]
LossOf = Callable[[nn.Module, Indices, int], Tensor]
"""The model, the indices of a batch and the number of finished epochs to a scalar loss."""

INTERVAL = 10
"""Steps between two records."""

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
        save_every: seconds between two checkpoints; there is also one after every evaluation, on Ctrl-C and at the end.
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
    """How a training ended.

    Attributes:
        images: seen in all steps, by all processes.
        seconds: evaluations included.
        images_per_s: since this process began, evaluations not counted.
        data_wait: share (0-1) of that time that was spent waiting for images and targets.
    """

    steps: int
    images: int
    seconds: float
    metrics: Metrics
    history: list[Metrics]
    images_per_s: float
    data_wait: float


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels with weight decay, norms and biases without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def start(model: nn.Module, config: LoopConfig) -> TrainingState:
    """Optimiser and averaged weights for a model that has not been trained yet."""

    averaged = AveragedModel(model, use_buffers=False)
    optimizer = OPTIMIZERS[config.optimizer](parameter_groups(model, config.weight_decay), lr=config.lr)  # type: ignore[call-arg]
    return TrainingState(model, averaged, optimizer)


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
    *,
    order: Order | None = None,
    clock: Clock | None = None,
    note: Callable[[], str] | None = None,
) -> Trained:
    """Train ``state.model`` in place.

    Args:
        loss_of: the model, the indices of a batch and the number of finished epochs to a scalar loss.
        count: how many items there are to draw from.
        evaluate: the averaged model to scores; called ``config.evaluations`` times, may change the model's mode and
            BatchNorm statistics.
        log: told one record a step interval and one an evaluation (those hold the scores).
        save: called every ``config.save_every`` seconds, after every evaluation, on Ctrl-C and at the end.
        progress: told (done, total) in steps, or in tenths of a second, and beside them what ``note`` says.
        order: which items a step sees. One of several processes trains on its share of each batch; the main one alone
            evaluates, logs, saves and shows progress. By default this process sees all items.
        clock: that ``loss_of`` tells how long it waits for data.

    Raises:
        RunError: the loss is no longer finite.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM, once the step is over and the checkpoint written.
    """
    order = order or Order(count, config.batch, config.seed)
    together, main = order.world > 1, order.rank == 0
    clock = clock or Clock(state.elapsed, engine.agree if together and config.seconds else None)
    model, optimizer = state.model, state.optimizer
    stepped = engine.shared(model) if together or engine.compiled else model
    history: list[Metrics] = []
    metrics: Metrics = {}
    losses: list[Tensor] = []
    model.train()

    def done() -> float:
        return state.step / config.steps if config.steps else state.elapsed / (config.seconds or 1.0)

    def loss_so_far() -> float:
        value = torch.stack(losses).double().mean()
        found = float(engine.mean(value) if together else value)
        if not math.isfinite(found):
            raise RunError(
                f"the loss became {found} at step {state.step}; lower the learning rate (now {config.lr:g})."
            )
        return found

    def keep() -> None:
        if save and main:
            save(state)

    evaluated = math.floor(done() * config.evaluations)
    with Interrupt().held() as interrupt:
        while (share := done()) < 1.0:
            epoch = state.step // order.an_epoch
            for group in optimizer.param_groups:
                group["lr"] = config.lr * rate(config.schedule, share, epoch, config.warmup)
            with engine.autocast():
                loss = loss_of(stepped, order.at(state.step), epoch)
            losses.append(loss.detach())
            if engine.device.type == "cpu" and not math.isfinite(
                float(losses[-1])
            ):  # asking a GPU each step would stall it
                loss_so_far()
            optimizer.zero_grad(set_to_none=True)
            engine.backward(loss)
            engine.clip(model.parameters(), config.clip)
            optimizer.step()
            _average(state, config.ema)
            state.step += 1
            clock.stepped(order.batch)
            state.elapsed = clock.elapsed
            if state.step % min(INTERVAL, config.steps or INTERVAL) == 0:
                record = {"step": state.step, "epoch": state.step / order.an_epoch, "loss": loss_so_far()}
                losses = []
                if log and main:
                    speed = {"images_per_s": clock.images_per_s(), "data_wait": clock.data_wait()}
                    log(record | {"lr": float(optimizer.param_groups[0]["lr"])} | speed)
            if progress and main:
                _tell(progress, state, config, note() if note else "")
            due = math.floor(min(done(), 1.0) * config.evaluations)
            if evaluate and due > evaluated:
                evaluated = due
                if main:
                    metrics = {"step": state.step, "epoch": state.step / order.an_epoch}
                    metrics |= {"seconds": state.elapsed, "share": min(done(), 1.0)}
                    with clock.paused(), interrupt.let_through():
                        metrics |= evaluate(state.averaged.module)
                    state.elapsed = clock.elapsed
                    history.append(metrics)
                    if log:
                        log(metrics)
                    keep()
                    model.train()
                engine.wait() if together else None
            elif interrupt.signal is not None or clock.save_is_due(config.save_every):
                keep()
            interrupt.act()
    if progress and config.seconds and main:  # the last evaluation may have used up the time that was left
        _tell(progress, state, config, note() if note else "", end=True)
    keep()
    if together:
        engine.release()
        engine.wait()
    seen = state.step * order.batch
    return Trained(state.step, seen, state.elapsed, metrics, history, clock.images_per_s(), clock.data_wait())


def _average(state: TrainingState, ema: float) -> None:
    """Move the averaged weights towards the model's; what is counted is counted on the host, so a GPU is not waited for."""
    decay = min(ema, (1 + state.step) / (10 + state.step)) if state.step else 0.0
    with torch.no_grad():
        averaged: list[Tensor] = list(state.averaged.module.parameters())
        current: list[Tensor] = list(state.model.parameters())
        torch._foreach_lerp_(averaged, current, 1.0 - decay)
        for kept, now in zip(state.averaged.module.buffers(), state.model.buffers(), strict=True):
            kept.copy_(now)
        state.averaged.n_averaged += 1


def _tell(progress: Progress, state: TrainingState, config: LoopConfig, note: str, end: bool = False) -> None:
    if config.steps:
        done, whole = state.step, config.steps
    else:
        whole = int(10 * (config.seconds or 0))
        done = whole if end else min(int(10 * state.elapsed), whole)
    if note:
        progress(done, whole, note)
    else:
        progress(done, whole)
