"""Step one of the paper: the student's trunk imitates the teacher's activations on unlabelled images (S9, S11)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.activations import ViewBank
from kdedge.training.batchnorm import mixed_batches, reestimate
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input, run_batches
from kdedge.training.loop import LoopConfig, Metrics, Trained, TrainingState, train
from kdedge.training.losses import Loss
from kdedge.training.metrics import cosine_similarity, knn_agreement, mean_absolute_error, r2_variance_weighted
from kdedge.training.targets import Standardize

__all__ = ["Regressor", "pretrain", "regression_scores"]


class Regressor(nn.Module):
    """The trunk and a linear adapter (dim to D) that is thrown away after pre-training."""

    def __init__(self, trunk: nn.Module, dim: int, targets: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.adapter = nn.Linear(dim, targets)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to predicted standardised activations (B, D)."""
        predicted: Tensor = self.adapter(self.trunk(x))
        return predicted


def regression_scores(target: NDArray[np.floating], predicted: NDArray[np.floating]) -> Metrics:
    """``r2`` (variance-weighted), ``cosine``, ``knn`` (5 neighbours), ``mse`` and ``mae`` of standardised activations."""
    return {
        "r2": r2_variance_weighted(target, predicted),
        "cosine": cosine_similarity(target, predicted),
        "knn": knn_agreement(target, predicted),
        "mse": float(np.mean((np.asarray(target, np.float64) - predicted) ** 2)),
        "mae": mean_absolute_error(target, predicted),
    }


def pretrain(
    state: TrainingState,
    bank: ViewBank,
    rows: NDArray[np.int64],
    heldout: NDArray[np.int64],
    standardize: Standardize,
    loss: Loss,
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    log: Callable[[Metrics], None],
    save: Callable[[TrainingState], None],
    progress: Progress | None = None,
    *,
    draw: int = 0,
) -> Trained:
    """Regress the teacher's standardised activations.

    Args:
        state: of a :class:`Regressor`.
        rows: rows of ``bank`` to train on.
        heldout: rows of ``bank`` to evaluate on; they show other images than ``rows``.
        log: told every record of the loop; those of an evaluation hold :func:`regression_scores`.
        draw: rows that an epoch draws at random, other ones each time (the paper: 8192 of 102,400); 0 for all.
    """
    targets = standardize(bank.activations)
    held_images, held_targets = np.asarray(bank.views[heldout]), targets[heldout]

    count = min(draw, len(rows)) if draw else len(rows)
    drawn: dict[int, NDArray[np.int64]] = {}

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:
        if count < len(rows) and epoch not in drawn:
            drawn.clear()
            drawn[epoch] = np.sort(np.random.default_rng((config.seed, 2, epoch)).choice(rows, count, replace=False))
        chosen = drawn.get(epoch, rows)[indices]
        batch = as_input(np.asarray(bank.views[chosen]), preprocess, engine)
        return loss(model(batch).float(), engine.tensor(targets[chosen]))

    def evaluate(model: nn.Module) -> Metrics:
        settle_batchnorm(model, bank, rows, preprocess, engine, config.seed)
        return regression_scores(held_targets, run_batches(model, held_images, preprocess, engine))

    return train(state, loss_of, count, config, engine, evaluate, log, save, progress)


def settle_batchnorm(
    model: nn.Module, bank: ViewBank, rows: NDArray[np.int64], preprocess: Preprocess, engine: Engine, seed: int
) -> None:
    """Re-estimate BatchNorm on views that are trained on; the model ends in eval mode."""
    parts = (rows[part] for part in mixed_batches(len(rows), seed))
    reestimate(model, (as_input(np.asarray(bank.views[part]), preprocess, engine) for part in parts))
