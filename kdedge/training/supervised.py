"""Training a classifier on labels: the one core of teachers, from-scratch, transfer and label-distillation runs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.auxiliary import AUXILIARY_WEIGHT, LEAST_INPUT, AuxiliaryStudent, has_auxiliary
from kdedge.training.batchnorm import mixed_batches, reestimate
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input, run_batches
from kdedge.training.loop import LoopConfig, Metrics, Trained, TrainingState, start, train
from kdedge.training.scores import classification_scores
from kdedge.training.source import Source
from kdedge.training.students import Student

__all__ = [
    "Classifier",
    "Criterion",
    "LabelledArrays",
    "cross_entropy",
    "fit_classifier",
    "score",
    "settle",
    "start_classifier",
]

Criterion = Callable[[Tensor, Tensor, NDArray[np.int64]], Tensor]
"""Logits (B, C), class numbers (B,) and the items' numbers (B,) to a scalar loss."""

LabelledArrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""RGB images (N, S, S, 3), uint8, and their class numbers (N,)."""

WATCHED = 1000  # training items that the training accuracy is measured on


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        student: in eval mode; of the evaluation with the best validation accuracy, or of the last step without validation.
        best: the scores of that evaluation.
    """

    student: Student
    trained: Trained
    best: Metrics


def cross_entropy(smoothing: float = 0.0) -> Criterion:
    """Cross entropy with label smoothing (0-1)."""

    def loss(logits: Tensor, labels: Tensor, items: NDArray[np.int64]) -> Tensor:  # noqa: ARG001
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    return loss


class _FrozenTrunk(Student):
    """A student whose trunk stays in eval mode, so that its BatchNorm statistics stay what they are."""

    def train(self, mode: bool = True) -> "_FrozenTrunk":
        super().train(mode)
        self.trunk.eval()
        return self


def start_classifier(
    student: Student, config: LoopConfig, engine: Engine, freeze: bool = False, size: int = 0
) -> TrainingState:
    """Optimiser and averaged weights; with ``freeze`` for the head alone.

    Args:
        size: input, pixels; Inception-V3 trains with its auxiliary head if that fits.
    """
    if not freeze and size >= LEAST_INPUT and has_auxiliary(student):
        student = AuxiliaryStudent(student)
    if freeze:
        frozen = _FrozenTrunk(
            student.trunk.requires_grad_(False), student.dim, student.head.out_features, student.weights
        )
        frozen.head = student.head
        student = frozen
    engine.place(student)
    return start(student, config)


def fit_classifier(
    state: TrainingState,
    source: Source,
    labels: NDArray[np.integer],
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    *,
    validation: LabelledArrays | None = None,
    criterion: Criterion | None = None,
    log: Callable[[Metrics], None] | None = None,
    save: Callable[[TrainingState], None] | None = None,
    keep: Callable[[Student, Metrics], None] | None = None,
    best: Metrics | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Train ``state.model`` and choose the evaluation with the best validation accuracy.

    Each evaluation records ``train_accuracy`` (at most 1000 items, without augmentation where the source has none) and, with
    validation images, ``val_loss`` and ``val_`` + the names of :func:`classification_scores`.

    Args:
        state: from :func:`start_classifier`.
        labels: (N,), the class numbers of the source's items.
        criterion: the loss; cross entropy if None.
        keep: told the averaged network (eval mode) whenever it is the best so far.
        best: the best record of an earlier part of this training (a resumed run).
    """
    criterion = criterion or cross_entropy()
    numbers = np.asarray(labels, np.int64)
    frozen = isinstance(state.model, _FrozenTrunk)
    watched = np.sort(np.random.default_rng(config.seed).choice(len(source), min(WATCHED, len(source)), replace=False))
    top: Metrics = dict(best or {})
    weights: dict[str, Tensor] | None = None
    assert isinstance(state.model, Student)
    classes = state.model.head.out_features

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:
        batch = as_input(source.batch(indices, epoch), preprocess, engine)
        target = engine.tensor(numbers[indices])
        if isinstance(model, AuxiliaryStudent):
            logits, auxiliary = model.both(batch)
            loss = criterion(logits.float(), target, indices)
            return loss + AUXILIARY_WEIGHT * criterion(auxiliary.float(), target, indices)
        return criterion(model(batch).float(), target, indices)

    def evaluate(model: nn.Module) -> Metrics:
        nonlocal top, weights
        if not frozen:
            settle(model, source, preprocess, engine, config.seed)
        model.eval()
        shown = source.batch(watched, 0)
        hits = run_batches(model, shown, preprocess, engine).argmax(1) == numbers[watched]
        found: Metrics = {"train_accuracy": float(hits.mean())}
        if validation:
            logits = run_batches(model, validation[0], preprocess, engine)
            loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(validation[1]))
            scored = classification_scores(validation[1], logits.argmax(1), classes)
            found |= {"val_loss": float(loss)} | {f"val_{key}": value for key, value in scored.items()}
            if (found["val_accuracy"], -found["val_loss"]) > (
                top.get("val_accuracy", -1.0),
                -top.get("val_loss", float("inf")),
            ):
                top = dict(found)
                weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
                if keep:
                    assert isinstance(model, Student)
                    keep(_bare(model), top)
        else:
            top = dict(found)
        return found

    trained = train(state, loss_of, len(source), config, engine, evaluate, log, save, progress)
    averaged = state.averaged.module
    assert isinstance(averaged, Student)
    if weights is not None:
        averaged.load_state_dict(weights)
    elif not validation and not frozen:
        settle(averaged, source, preprocess, engine, config.seed)
    averaged.eval()
    return Classifier(_thawed(averaged), trained, top)


def score(
    student: Student, images: NDArray[np.uint8], labels: NDArray[np.integer], preprocess: Preprocess, engine: Engine
) -> dict[str, float]:
    """:func:`classification_scores` of RGB images (N, S, S, 3), uint8."""
    engine.place(student.eval())
    logits = run_batches(student, images, preprocess, engine)
    return classification_scores(np.asarray(labels), logits.argmax(1), student.head.out_features)


def settle(model: nn.Module, source: Source, preprocess: Preprocess, engine: Engine, seed: int) -> None:
    """Re-estimate BatchNorm on training views."""
    parts = mixed_batches(len(source), seed)
    reestimate(model, (as_input(source.batch(part, 0), preprocess, engine) for part in parts))


def _bare(student: Student) -> Student:
    """Without the second head that a training added."""
    return student.plain() if isinstance(student, AuxiliaryStudent) else student


def _thawed(student: Student) -> Student:
    if isinstance(student, AuxiliaryStudent):
        return student.plain().eval()
    if not isinstance(student, _FrozenTrunk):
        return student
    plain = Student(student.trunk, student.dim, student.head.out_features, student.weights)
    plain.head = student.head
    return plain.requires_grad_(True).eval()
