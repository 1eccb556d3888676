"""The student's network trained from random weights on the labelled images alone (the paper's S6)."""

from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.activations import ViewBank
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input
from kdedge.training.loop import LoopConfig, Metrics, Trained, start, train
from kdedge.training.pretrain import settle_batchnorm
from kdedge.training.students import Student

__all__ = ["train_scratch"]


def train_scratch(
    student: Student,
    bank: ViewBank,
    rows: NDArray[np.int64],
    labels: NDArray[np.integer],
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    log: Callable[[Metrics], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Student, Trained]:
    """Cross entropy with label smoothing 0.1 on the same augmented views, with the same loop, as distillation uses.

    Args:
        rows: rows of ``bank`` that show labelled images.
        labels: (len(rows),), their class numbers.

    Returns:
        The averaged network in eval mode with re-estimated BatchNorm, and how training ended.
    """
    engine.place(student)

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:  # noqa: ARG001
        batch = as_input(np.asarray(bank.views[rows[indices]]), preprocess, engine)
        target = engine.tensor(np.asarray(labels[indices], np.int64))
        return F.cross_entropy(model(batch).float(), target, label_smoothing=0.1)

    state = start(student, config)
    trained = train(state, loss_of, len(rows), config, engine, None, log, None, progress)
    averaged = state.averaged.module
    assert isinstance(averaged, Student)
    settle_batchnorm(averaged, bank, rows, preprocess, engine, config.seed)
    return averaged, trained
