"""Step one of the paper: the student's trunk imitates the teacher's activations on unlabelled images (S9, S11)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.activations import ViewBank
from kdedge.training.batchnorm import SETTLED, mixed_batches, reestimate
from kdedge.training.clock import Clock
from kdedge.training.engine import Engine
from kdedge.training.feed import Feed, Live, pixels_of
from kdedge.training.inference import as_input, run_batches
from kdedge.training.joined import Picked
from kdedge.training.loop import LoopConfig, Metrics, Trained, TrainingState, train
from kdedge.training.losses import Loss
from kdedge.training.metrics import cosine_similarity, knn_agreement, mean_absolute_error, r2_variance_weighted
from kdedge.training.order import Order
from kdedge.training.regressor import Regressor
from kdedge.training.targets import Standardize, Targets

__all__ = ["Regressor", "order_of", "pretrain", "regression_scores", "scores_of", "settle_batchnorm"]

LEAST_SETTLED = 128
"""Views that BatchNorm is re-estimated from, at least."""


def regression_scores(target: NDArray[np.floating], predicted: NDArray[np.floating]) -> Metrics:
    """``r2`` (variance-weighted), ``cosine``, ``knn`` (5 neighbours), ``mse`` and ``mae`` of standardised activations."""
    return {
        "r2": r2_variance_weighted(target, predicted),
        "cosine": cosine_similarity(target, predicted),
        "knn": knn_agreement(target, predicted),
        "mse": float(np.mean((np.asarray(target, np.float64) - predicted) ** 2)),
        "mae": mean_absolute_error(target, predicted),
    }


def scores_of(
    activations: NDArray[np.floating],
    predicted: NDArray[np.floating],
    targets: Targets,
    yardstick: Standardize | None = None,
) -> Metrics:
    """:func:`regression_scores` of predicted targets (N, D) against the teacher's activations (N, D).

    Args:
        yardstick: measure standardised activations, whatever the targets are, so that students of different targets can be
            compared; None measures the targets themselves.
    """
    if yardstick is None or yardstick is targets:
        return regression_scores(targets(activations), predicted)
    return regression_scores(yardstick(activations), yardstick(targets.inverse(predicted)))


def order_of(bank: ViewBank, rows: NDArray[np.int64], config: LoopConfig, engine: Engine, draw: int = 0) -> Order:
    """In which order ``rows`` are trained on, by all processes together."""
    count = min(draw, len(rows)) if draw else len(rows)
    blocks = None
    if bank.blocks is not None:
        position = np.full(len(bank), -1, np.int64)
        position[rows] = np.arange(len(rows))
        blocks = [kept for block in bank.blocks if len(kept := position[block][position[block] >= 0])]
    return Order(count, config.batch, config.seed, blocks, rank=engine.rank, world=engine.world)


def pretrain(
    state: TrainingState,
    bank: ViewBank,
    rows: NDArray[np.int64],
    heldout: NDArray[np.int64],
    targets: Targets,
    loss: Loss,
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    log: Callable[[Metrics], None],
    save: Callable[[TrainingState], None],
    progress: Progress | None = None,
    *,
    draw: int = 0,
    yardstick: Standardize | None = None,
    live: Live | None = None,
    probe: Callable[[nn.Module], Metrics] | None = None,
    note: Callable[[], str] | None = None,
    order: Order | None = None,
) -> Trained:
    """Regress targets made of the teacher's activations.

    Args:
        state: of a :class:`Regressor`.
        rows: rows of ``bank`` to train on.
        heldout: rows of ``bank`` to evaluate on; they show other images than ``rows``.
        log: told every record of the loop; those of an evaluation hold :func:`scores_of`.
        draw: rows that an epoch draws at random, other ones each time (the paper: 8192 of 102,400); 0 for all.
        probe: more scores of an evaluation, of the averaged network in eval mode.
        note: what the progress line says besides.
    """
    order = order or order_of(bank, rows, config, engine, draw)
    clock = Clock(state.elapsed, engine.agree if order.world > 1 and config.seconds else None)
    feed = Feed(bank, rows, order, targets, preprocess, engine, clock, draw=draw, live=live)
    shown, known = Picked(bank.views, heldout), bank.activations[heldout]
    between = (config.steps or SETTLED) * order.batch // max(1, config.evaluations)
    most = max(LEAST_SETTLED, min(SETTLED, between // 8))  # an evaluation should cost little beside the steps before it

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:  # noqa: ARG001
        batch, target = feed.take(state.step)
        return loss(model(batch).float(), target)

    def evaluate(model: nn.Module) -> Metrics:
        settle_batchnorm(model, bank, rows, preprocess, engine, config.seed, most)
        found = scores_of(known, run_batches(model, shown, preprocess, engine), targets, yardstick)
        return found | (probe(model) if probe else {})

    try:
        return train(
            state,
            loss_of,
            order.count,
            config,
            engine,
            evaluate,
            log,
            save,
            progress,
            order=order,
            clock=clock,
            note=note,
        )
    finally:
        feed.close()


def settle_batchnorm(
    model: nn.Module,
    bank: ViewBank,
    rows: NDArray[np.int64],
    preprocess: Preprocess,
    engine: Engine,
    seed: int,
    most: int = SETTLED,
) -> None:
    """Re-estimate BatchNorm on at most ``most`` views that are trained on; the model ends in eval mode.

    Views of more than 64 pixels hold more positions each, so of them fewer are taken, 128 at least.
    """
    most = max(LEAST_SETTLED, min(most, SETTLED * 64**2 // preprocess.size**2))
    parts = (rows[part] for part in mixed_batches(len(rows), seed, most))
    with engine.autocast():  # in the precision of the training: the averages are taken in float32 all the same
        reestimate(model, (as_input(pixels_of(bank.views, part, engine.device), preprocess, engine) for part in parts))
