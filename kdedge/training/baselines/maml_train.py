"""The outer loop of MAML on images (the paper's S5): tasks out of the labelled classes, judged on tasks of other images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from kdedge.errors import RunError
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.baselines.maml import Adaptation, Task, adapt, draw_task, maml_loss
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input
from kdedge.training.loop import LoopConfig, Metrics, Trained, TrainingState, train
from kdedge.training.source import Source
from kdedge.training.students import Student
from kdedge.training.supervised import LabelledArrays

__all__ = ["JUDGED_TASKS", "MetaLearned", "TaskShape", "judge", "train_maml"]

JUDGED_TASKS = 40  # tasks that an evaluation adapts to


@dataclass(frozen=True)
class TaskShape:
    """``ways`` classes, ``shots`` images of each to adapt on and ``queries`` to be judged on."""

    ways: int = 5
    shots: int = 1
    queries: int = 5

    def __post_init__(self) -> None:
        if self.ways < 2 or self.shots < 1 or self.queries < 1:
            raise RunError(
                f"tasks of {self.ways} ways, {self.shots} shots and {self.queries} queries: expected at least 2, 1 and 1."
            )

    def draw(self, labels: NDArray[np.integer], key: tuple[int, ...]) -> Task:
        """See :func:`draw_task`."""
        return draw_task(labels, self.ways, self.shots, self.queries, key)


@dataclass(frozen=True)
class MetaLearned:
    """Weights to adapt from, in eval mode, of the evaluation with the best validation accuracy; ``best`` holds its scores."""

    student: Student
    trained: Trained
    best: Metrics


def train_maml(
    state: TrainingState,
    source: Source,
    labels: NDArray[np.integer],
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    *,
    shape: TaskShape,
    inner: Adaptation,
    validation: LabelledArrays | None = None,
    log: Callable[[Metrics], None] | None = None,
    save: Callable[[TrainingState], None] | None = None,
    keep: Callable[[Student, Metrics], None] | None = None,
    best: Metrics | None = None,
    progress: Progress | None = None,
) -> MetaLearned:
    """Train ``state.model``, a :class:`Student` with ``shape.ways`` outputs; a batch of the loop is that many tasks.

    BatchNorm sees the statistics of the support or query images at hand, in training and when a task is judged, as in the
    method's own experiments: the predictions for one query image depend on the others beside it.

    Args:
        labels: (N,), the class numbers of the source's items.
        validation: images that tasks are judged on (:func:`judge`, as ``val_``); without them the training images, so that
            nothing is chosen and the last evaluation counts.
        keep: told the averaged network whenever it is the best so far; ``best`` is the best record before a resume.

    Raises:
        DataError: too few classes or images for a task, among the training or the validation images.
    """
    numbers = np.asarray(labels, np.int64)
    shape.draw(numbers, (config.seed,))  # refuse before the first step
    if validation:
        shape.draw(validation[1], (config.seed,))
    top: Metrics = dict(best or {})
    weights: dict[str, Tensor] | None = None
    tasks_an_epoch = max(config.batch, len(source) // (shape.ways * (shape.shots + shape.queries)))

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:
        losses = []
        for number in range(len(indices)):
            task = shape.draw(numbers, (config.seed, 3, state.step, number))
            support, query = (
                (as_input(source.batch(items, epoch), preprocess, engine), engine.tensor(own))
                for items, own in ((task.support, task.support_labels), (task.query, task.query_labels))
            )
            losses.append(maml_loss(model, support, query, F.cross_entropy, inner))
        return torch.stack(losses).mean()

    def evaluate(model: nn.Module) -> Metrics:
        nonlocal top, weights
        assert isinstance(model, Student)
        images = source.batch(np.arange(len(source)), 0)
        seen = judge(model, images, numbers, preprocess, engine, shape, inner, config.seed)
        found = {f"train_{key}": value for key, value in seen.items()}
        if validation:
            other = judge(model, *validation, preprocess, engine, shape, inner, config.seed)
            found |= {f"val_{key}": value for key, value in other.items()}
        if not validation or found["val_accuracy"] > top.get("val_accuracy", -1.0):
            top = dict(found)
            weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
            if keep:
                keep(model, top)
        return found

    trained = train(state, loss_of, tasks_an_epoch, config, engine, evaluate, log, save, progress)
    averaged = state.averaged.module
    assert isinstance(averaged, Student)
    if weights is not None:
        averaged.load_state_dict(weights)
    return MetaLearned(averaged.eval(), trained, top)


def judge(
    model: Student,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    preprocess: Preprocess,
    engine: Engine,
    shape: TaskShape,
    inner: Adaptation,
    seed: int,
    tasks: int | None = None,
) -> Metrics:
    """Adapt to tasks that are the same on every call (:data:`JUDGED_TASKS` by default), and score their query images.

    Returns:
        ``accuracy`` after and ``accuracy_before`` adaptation, means over the tasks, 0-1, and ``accuracy_interval``, half the
        width of the 95 % interval of the former.
    """
    tasks = tasks or JUDGED_TASKS
    mode = model.training
    _batch_statistics(model)
    parameters = {name: value.detach().requires_grad_(True) for name, value in model.named_parameters()}
    after: list[float] = []
    before: list[float] = []
    for number in range(tasks):
        task = shape.draw(labels, (seed, 4, number))
        x = as_input(images[task.support], preprocess, engine)
        fast = adapt(model, parameters, x, engine.tensor(task.support_labels), F.cross_entropy, _first_order(inner))
        x = as_input(images[task.query], preprocess, engine)
        for found, weights in ((before, parameters), (after, fast)):
            with torch.no_grad():
                buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
                chosen = functional_call(model, {**weights, **buffers}, (x,)).argmax(1).cpu().numpy()
            found.append(float((chosen == task.query_labels).mean()))
    model.train(mode)
    spread = float(np.std(after, ddof=1)) if tasks > 1 else 0.0
    interval = 1.96 * spread / tasks**0.5
    return {
        "accuracy": float(np.mean(after)),
        "accuracy_before": float(np.mean(before)),
        "accuracy_interval": interval,
    }


def _first_order(inner: Adaptation) -> Adaptation:
    """The adapted weights are the same; nothing is differentiated through them here."""
    return Adaptation(inner.rate, inner.steps, first_order=True)


def _batch_statistics(model: nn.Module) -> None:
    """Evaluation mode, but BatchNorm takes the batch's statistics."""
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
