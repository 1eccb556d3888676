"""What the quickstart's student is held against: the same network from scratch, and the harder split by condition."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.progress import Progress
from kdedge.training.baselines.scratch import train_scratch
from kdedge.training.distill import Distilled
from kdedge.training.engine import Engine
from kdedge.training.finetune import fit_head
from kdedge.training.inference import run_batches
from kdedge.training.labelled import embed_with
from kdedge.training.loop import LoopConfig, start
from kdedge.training.losses import loss_named
from kdedge.training.pretrain import Regressor, pretrain
from kdedge.training.students import build_student
from kdedge.training.targets import Standardize
from kdedge.training.teachers import Teacher
from kdedge.training.views import HEAD_VIEWS, first_views

__all__ = ["Shift", "scratch_accuracy", "shift_accuracy"]


def scratch_accuracy(done: Distilled, name: str, seconds: float, seed: int, progress: Progress) -> float:
    """Test accuracy (0-1) of the student's network from random weights, trained on the labelled views for ``seconds``."""
    test = done.material.test
    assert test is not None
    size = done.card.preprocess.size
    torch.manual_seed(seed)
    student = build_student(name, len(done.card.labels), "random", size)
    config = LoopConfig(seconds=seconds, batch=done.loop.batch, lr=done.loop.lr, evaluations=0, seed=seed)
    network, _ = train_scratch(
        student,
        done.bank,
        done.labelled_rows,
        done.labelled_classes,
        done.card.preprocess,
        config,
        done.engine,
        progress=progress,
    )
    logits = run_batches(network, test.images, done.card.preprocess, done.engine)
    return float((logits.argmax(1) == test.labels).mean())


@dataclass(frozen=True)
class Shift:
    """The split by condition: accuracies (0-1), and how many crops were labelled and tested."""

    student: float
    teacher: float
    labelled: int
    tested: int


def shift_accuracy(
    done: Distilled, teacher: Teacher, name: str, weights: str, seconds: float, seed: int, progress: Progress
) -> Shift:
    """Learn from the studio emotion sheets alone, test on every other photograph.

    A new student is distilled on the generated faces and on those labelled crops that come from emotion sheets; its head is
    fitted on these. No crop of another photograph is seen, labelled or not, before the test.
    """
    material, bank, preprocess = done.material, done.bank, done.card.preprocess
    train, test = material.train, material.test
    assert train is not None
    assert test is not None
    first = len(material.transfer)
    studio = np.asarray([path.stem.startswith("emotions_sheet") for path in train.paths])
    number = bank.image[done.labelled_rows] - first
    rows, labels = done.labelled_rows[studio[number]], done.labelled_classes[studio[number]]
    transfer_rows = done.rows[bank.image[done.rows] < first]

    torch.manual_seed(seed)
    student = build_student(name, 2, weights, preprocess.size)
    model = Regressor(student.trunk, student.dim, teacher.dim)
    engine = Engine(done.engine.device, done.engine.precision)
    engine.place(model)
    config = LoopConfig(seconds=seconds, batch=done.loop.batch, lr=done.loop.lr, evaluations=1, seed=seed)
    state = start(model, config)
    seen = np.sort(np.concatenate([transfer_rows, rows]))
    held = np.flatnonzero(np.isin(bank.image, material.held_transfer))
    standardize = Standardize.fit(bank.activations[seen])
    pretrain(
        state,
        bank,
        seen,
        held,
        standardize,
        loss_named("mse+cosine"),
        preprocess,
        config,
        engine,
        _drop,
        _drop,
        progress,
    )
    averaged = state.averaged.module
    assert isinstance(averaged, Regressor)

    first_few = first_views(bank.image[rows], HEAD_VIEWS)
    few, few_labels = rows[first_few], labels[first_few]
    other = np.asarray([not path.stem.startswith("emotions_sheet") for path in test.paths])
    images = np.concatenate([train.images[~studio], test.images[other]])
    truth = np.concatenate([train.labels[~studio], test.labels[other]])

    def accuracy(known: NDArray[np.float32], asked: NDArray[np.float32]) -> float:
        head = fit_head(known, few_labels, bank.image[few], len(done.card.labels), seed)
        return float((head.predict(asked) == truth).mean())

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run_batches(averaged.trunk, pixels, preprocess, engine)

    return Shift(
        student=accuracy(embed(np.asarray(bank.views[few])), embed(images)),
        teacher=accuracy(np.asarray(bank.activations[few]), embed_with(teacher, images)),
        labelled=int(studio.sum()),
        tested=len(truth),
    )


def _drop(_: object) -> None:
    """Records and checkpoints of this side experiment are not kept."""
