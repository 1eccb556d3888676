"""Step two of the paper: the head, fitted on the frozen trunk's embeddings of the labelled images, and its scores."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank, fit_to
from kdedge.training.datasets import Labelled, Material
from kdedge.training.engine import Engine
from kdedge.training.finetune import LinearHead, fit_head
from kdedge.training.inference import run_batches
from kdedge.training.pretrain import Regressor, scores_of
from kdedge.training.probe import few_shot_probe
from kdedge.training.students import Student
from kdedge.training.targets import Standardize, Targets
from kdedge.training.teachers import Teacher
from kdedge.training.views import HEAD_VIEWS, first_views, views_of_labelled

__all__ = ["LabelledProbe", "embed_with", "fit_and_score"]

Scores = dict[str, float]


def embed_with(teacher: Teacher, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The teacher's activations (N, D) of square RGB images (N, S, S, 3)."""
    parts = [
        teacher.embed(fit_to(images[begin : begin + 16], teacher.preprocess)) for begin in range(0, len(images), 16)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class LabelledProbe:
    """A quick few-shot probe of a network's embeddings while it is trained: is it getting better at what it is for?

    Attributes:
        train, val: images (N, S, S, 3), uint8, with class numbers (N,); at most 1000 each, the same ones every time.
    """

    train: tuple[NDArray[np.uint8], NDArray[np.int64]]
    val: tuple[NDArray[np.uint8], NDArray[np.int64]] | None
    preprocess: Preprocess
    engine: Engine

    @classmethod
    def of(cls, material: Material, preprocess: Preprocess, engine: Engine) -> "LabelledProbe | None":
        """From the labelled and the validation images; None without labels."""
        if material.train is None:
            return None
        val = _few(material.val, preprocess) if material.val else None
        return cls(_few(material.train, preprocess), val, preprocess, engine)

    def __call__(self, regressor: nn.Module) -> Scores:
        """``probe``, 0-1, of a :class:`Regressor` in eval mode; nothing where there are too few images to say."""
        assert isinstance(regressor, Regressor)
        shown = [part for part in (self.train, self.val) if part]
        found = [run_batches(regressor.trunk, images, self.preprocess, self.engine) for images, _ in shown]
        against = (found[1], self.val[1]) if self.val else (None, None)
        accuracy = few_shot_probe(found[0], self.train[1], *against)
        return {"probe": accuracy} if np.isfinite(accuracy) else {}


def _few(part: Labelled, preprocess: Preprocess, most: int = 1000) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(part.labels))[:most])
    return fit_to(part.images[chosen], preprocess), part.labels[chosen]


def fit_and_score(
    student: Student,
    regressor: Regressor,
    teacher: Teacher,
    targets: Targets,
    yardstick: Standardize,
    material: Material,
    bank: ViewBank,
    preprocess: Preprocess,
    engine: Engine,
    seed: int,
) -> tuple[Student, Scores]:
    """Give the student a head and score it beside the teacher's own linear probe.

    Returns:
        The student with its head, in eval mode, and, 0-1: ``cv_accuracy`` and ``teacher_cv_accuracy`` (cross-validation over
        the labelled images; absent with one image a class) and, for the validation and the test set where there are such,
        ``*_accuracy``, ``teacher_*_accuracy``, ``*_r2`` and ``*_cosine``.
    """
    rows, labels = views_of_labelled(bank, material)
    few = first_views(bank.image[rows], HEAD_VIEWS)
    rows, labels = rows[few], labels[few]
    classes, images = len(material.classes), bank.image[rows]
    embeddings = run_batches(student.trunk, np.asarray(bank.views[rows]), preprocess, engine)
    head = fit_head(embeddings, labels, images, classes, seed)
    probe = fit_head(bank.activations[rows], labels, images, classes, seed)
    headed = Student(student.trunk, student.dim, classes, student.weights)
    _put(head, headed)
    engine.place(headed)
    headed.eval()
    scores = {"cv_accuracy": head.validation_accuracy, "teacher_cv_accuracy": probe.validation_accuracy}
    for name, part in (("val", material.val), ("test", material.test)):
        if part:
            taught = embed_with(teacher, part.images)
            logits = run_batches(headed, part.images, preprocess, engine)
            predicted = run_batches(regressor, part.images, preprocess, engine)
            reached = scores_of(taught, predicted, targets, yardstick)
            scores[f"{name}_accuracy"] = float((logits.argmax(1) == part.labels).mean())
            scores[f"teacher_{name}_accuracy"] = float((probe.predict(taught) == part.labels).mean())
            scores[f"{name}_r2"], scores[f"{name}_cosine"] = reached["r2"], reached["cosine"]
    return headed, {key: value for key, value in scores.items() if np.isfinite(value)}


def _put(head: LinearHead, student: Student) -> None:
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(head.weight))
        student.head.bias.copy_(torch.from_numpy(head.bias))
