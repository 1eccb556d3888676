"""One-shot learning (the paper's S4): a Siamese network with triplet loss, judged by triplets of images it never saw."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input, run_batches
from kdedge.training.loop import LoopConfig, Metrics, Trained, TrainingState, train
from kdedge.training.source import Source
from kdedge.training.supervised import LabelledArrays, settle
from kdedge.training.triplets import draw_triplets, fixed_triplets, triplet_accuracy, triplet_loss

__all__ = ["JUDGED", "OneShot", "train_oneshot"]

JUDGED = 2000  # triplets that an accuracy is measured on


@dataclass(frozen=True)
class OneShot:
    """A trained embedding.

    Attributes:
        trunk: (B, 3, S, S) to embeddings (B, D), in eval mode; of the evaluation with the best validation accuracy.
        best: the scores of that evaluation: ``train_accuracy`` and ``val_accuracy`` of triplets, 0-1.
    """

    trunk: nn.Module
    trained: Trained
    best: Metrics


def train_oneshot(
    state: TrainingState,
    source: Source,
    labels: NDArray[np.integer],
    preprocess: Preprocess,
    config: LoopConfig,
    engine: Engine,
    *,
    validation: LabelledArrays | None = None,
    margin: float = 1.0,
    log: Callable[[Metrics], None] | None = None,
    save: Callable[[TrainingState], None] | None = None,
    keep: Callable[[nn.Module, Metrics], None] | None = None,
    best: Metrics | None = None,
    progress: Progress | None = None,
) -> OneShot:
    """Train ``state.model``, a trunk, on random triplets: every item of an epoch is an anchor once.

    The paper uses Adam and its learning-rate rule: ``LoopConfig(optimizer="adam", schedule="inverse-sqrt")``.

    Args:
        labels: (N,), the class numbers of the source's items.
        margin: of squared distances.
        keep: told the averaged trunk whenever it is the best so far; ``best`` is the best record before a resume.

    Raises:
        DataError: a class with one image, or one class only.
    """
    numbers = np.asarray(labels, np.int64)
    watched = np.sort(np.random.default_rng(config.seed).choice(len(source), min(1000, len(source)), replace=False))
    judged = fixed_triplets(numbers[watched], config.seed, JUDGED)
    judged_validation = fixed_triplets(validation[1], config.seed, JUDGED) if validation else None
    top: Metrics = dict(best or {})
    weights: dict[str, Tensor] | None = None

    def loss_of(model: nn.Module, indices: NDArray[np.int64], epoch: int) -> Tensor:
        triplets = draw_triplets(numbers, indices, config.seed, epoch)
        images = [source.batch(triplets[:, column], epoch) for column in range(3)]
        found = model(as_input(np.concatenate(images), preprocess, engine)).float()
        anchor, positive, negative = found.chunk(3)
        return triplet_loss(anchor, positive, negative, margin)

    def evaluate(model: nn.Module) -> Metrics:
        nonlocal top, weights
        settle(model, source, preprocess, engine, config.seed)
        embeddings = run_batches(model.eval(), source.batch(watched, 0), preprocess, engine)
        found: Metrics = {"train_accuracy": triplet_accuracy(embeddings, judged)}
        if validation and judged_validation is not None:
            embeddings = run_batches(model, validation[0], preprocess, engine)
            found["val_accuracy"] = triplet_accuracy(embeddings, judged_validation)
        if not validation or found["val_accuracy"] > top.get("val_accuracy", -1.0):
            top = dict(found)
            weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
            if keep:
                keep(model, top)
        return found

    trained = train(state, loss_of, len(source), config, engine, evaluate, log, save, progress)
    averaged: nn.Module = state.averaged.module
    if weights is not None:
        averaged.load_state_dict(weights)
    return OneShot(averaged.eval(), trained, top)
