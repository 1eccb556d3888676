"""Step two of the paper: the head, fitted on the frozen trunk's embeddings of the labelled images, and its scores."""

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank, fit_to
from kdedge.training.datasets import Material
from kdedge.training.engine import Engine
from kdedge.training.finetune import LinearHead, fit_head
from kdedge.training.inference import run_batches
from kdedge.training.pretrain import Regressor, regression_scores
from kdedge.training.students import Student
from kdedge.training.targets import Standardize
from kdedge.training.teachers import Teacher
from kdedge.training.views import first_views, views_of_labelled

__all__ = ["HEAD_VIEWS", "embed_with", "fit_and_score"]

HEAD_VIEWS = 8  # views of each labelled image that a head is fitted on
Scores = dict[str, float]


def embed_with(teacher: Teacher, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The teacher's activations (N, D) of square RGB images (N, S, S, 3)."""
    parts = [
        teacher.embed(fit_to(images[begin : begin + 16], teacher.preprocess)) for begin in range(0, len(images), 16)
    ]
    return np.concatenate(parts)


def fit_and_score(
    student: Student,
    regressor: Regressor,
    teacher: Teacher,
    standardize: Standardize,
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
            reached = regression_scores(standardize(taught), run_batches(regressor, part.images, preprocess, engine))
            scores[f"{name}_accuracy"] = float((logits.argmax(1) == part.labels).mean())
            scores[f"teacher_{name}_accuracy"] = float((probe.predict(taught) == part.labels).mean())
            scores[f"{name}_r2"], scores[f"{name}_cosine"] = reached["r2"], reached["cosine"]
    return headed, {key: value for key, value in scores.items() if np.isfinite(value)}


def _put(head: LinearHead, student: Student) -> None:
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(head.weight))
        student.head.bias.copy_(torch.from_numpy(head.bias))
