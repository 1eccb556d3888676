"""The two steps of feature distillation on the images of the tables: imitate, freeze, fit the last layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.data.split import hold_out
from kdedge.paper.material import PaperData
from kdedge.paper.plan import Scale
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.activations import ViewBank, build_bank
from kdedge.training.augment import Augment
from kdedge.training.connector import with_connector
from kdedge.training.engine import Engine
from kdedge.training.finetune import fit_head
from kdedge.training.inference import run_batches
from kdedge.training.loop import LoopConfig, Metrics, TrainingState, start
from kdedge.training.losses import loss_named
from kdedge.training.pretrain import Regressor, pretrain, regression_scores
from kdedge.training.students import Student
from kdedge.training.targets import Standardize
from kdedge.training.teachers import Teacher
from kdedge.training.views import first_views

__all__ = ["Imitated", "Lesson", "identity", "imitate", "prepare", "trunk_of", "with_logistic_head"]

HELD_OUT = 0.05  # of the transfer images
HEAD_VIEWS = 8


@dataclass(frozen=True)
class Lesson:
    """What a teacher makes of all views, and which of them are trained on.

    Attributes:
        rows, heldout: rows of the bank; the latter show validation images and a part of the transfer images.
        labelled: rows of the bank that show labelled training images, ``labels`` their class numbers.
        targets: raw activations to what is regressed.
    """

    bank: ViewBank
    rows: NDArray[np.int64]
    heldout: NDArray[np.int64]
    labelled: NDArray[np.int64]
    labels: NDArray[np.int64]
    targets: Standardize


@dataclass(frozen=True)
class Imitated:
    """A pre-trained trunk, in eval mode, of the evaluation with the best held-out cosine."""

    regressor: Regressor
    history: list[dict[str, Any]]
    scores: Metrics
    target: NDArray[np.float32]
    predicted: NDArray[np.float32]


def identity(dim: int) -> Standardize:
    """Targets as the teacher gives them (concept logits, or the paper's raw activations)."""
    return Standardize(np.zeros(dim, np.float32), np.ones(dim, np.float32))


def prepare(teacher: Teacher, data: PaperData, scale: Scale, raw: bool, bars: Bars) -> Lesson:
    """Let the teacher see the views: all seeds and students of one teacher share them (and its cache).

    Args:
        raw: regress the activations as they are instead of standardised ones.
    """
    images = np.concatenate([data.transfer, data.train.images, data.val.images])
    counts = (len(data.transfer), len(data.train.images), len(data.val.images))
    views = [scale.views] * counts[0] + [scale.train_views] * counts[1] + [1] * counts[2]
    with bars(f"Teacher sees {sum(views):,} views") as progress:
        bank = build_bank(images, views, teacher, Augment.named(scale.augment), 0, progress)
    held = bank.image >= counts[0] + counts[1]
    if counts[0] > 1:
        held |= np.isin(bank.image, hold_out(counts[0], HELD_OUT, 0)[1])
    rows, heldout = np.flatnonzero(~held), np.flatnonzero(held)
    labelled = np.flatnonzero((bank.image >= counts[0]) & (bank.image < counts[0] + counts[1]))
    labels = data.train.labels[bank.image[labelled] - counts[0]]
    targets = identity(teacher.dim) if raw else Standardize.fit(bank.activations[rows])
    return Lesson(bank, rows, heldout, labelled, labels, targets)


def imitate(
    student: Student,
    lesson: Lesson,
    loss: str,
    preprocess: Preprocess,
    loop: LoopConfig,
    engine: Engine,
    bars: Bars,
    draw: int = 0,
) -> Imitated:
    """Step one: regress the lesson's targets; the best held-out cosine is kept.

    Args:
        draw: rows an epoch draws; 0 for all.
    """
    bank = lesson.bank
    model = Regressor(student.trunk, student.dim, bank.activations.shape[1])
    engine.place(model)
    state = start(model, loop)
    history: list[dict[str, Any]] = []
    best: dict[str, Any] = {"cosine": -2.0, "weights": None}

    def log(record: Metrics) -> None:
        history.append(dict(record))
        if record.get("cosine", -2.0) > best["cosine"]:
            weights = {key: value.detach().clone() for key, value in state.averaged.module.state_dict().items()}
            best.update(cosine=record["cosine"], weights=weights)

    def save(now: TrainingState) -> None:
        """Cells are small: what is interrupted starts anew."""

    with bars("Imitating the teacher") as progress:
        pretrain(
            state,
            bank,
            lesson.rows,
            lesson.heldout,
            lesson.targets,
            loss_named(loss),
            preprocess,
            loop,
            engine,
            log,
            save,
            progress,
            draw=draw,
        )
    regressor = state.averaged.module
    assert isinstance(regressor, Regressor)
    if best["weights"] is not None:
        regressor.load_state_dict(best["weights"])
    regressor.eval()
    target = lesson.targets(bank.activations[lesson.heldout])
    predicted = run_batches(regressor, np.asarray(bank.views[lesson.heldout]), preprocess, engine)
    return Imitated(regressor, history, regression_scores(target, predicted), target, predicted)


def trunk_of(imitated: Imitated, dim: int, concepts: bool) -> tuple[nn.Module, int]:
    """What is frozen in step two, and its dimension.

    With ``concepts`` the adapter stays as the student's own connector (the paper's S10); otherwise it is thrown away.
    """
    regressor = imitated.regressor
    if not concepts:
        return regressor.trunk, dim
    return with_connector(regressor.trunk, regressor.adapter), regressor.adapter.out_features


def with_logistic_head(
    trunk: nn.Module, dim: int, lesson: Lesson, classes: int, preprocess: Preprocess, engine: Engine, seed: int
) -> tuple[Student, float]:
    """Step two by logistic regression on at most eight views of each labelled image.

    Returns:
        The student in eval mode, and the cross-validated accuracy (0-1) of the penalty that was chosen.
    """
    few = first_views(lesson.bank.image[lesson.labelled], HEAD_VIEWS)
    rows, labels = lesson.labelled[few], lesson.labels[few]
    engine.place(trunk.eval())
    embeddings = run_batches(trunk, np.asarray(lesson.bank.views[rows]), preprocess, engine)
    head = fit_head(embeddings, labels, lesson.bank.image[rows], classes, seed)
    student = Student(trunk, dim, classes)
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(head.weight))
        student.head.bias.copy_(torch.from_numpy(head.bias))
    engine.place(student)
    return student.eval(), head.validation_accuracy
