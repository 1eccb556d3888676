"""What every training on labels needs before and after it: images, precision, length, card."""

import copy
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn

from kdedge.card import ModelCard
from kdedge.errors import RunError
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.checkpoint import load_state, save_state, save_weights
from kdedge.training.datasets import Labelled, labelled_files, read_labelled, refuse_leaks
from kdedge.training.engine import Engine
from kdedge.training.fit_config import FitConfig
from kdedge.training.inference import as_input
from kdedge.training.loop import LoopConfig, Metrics, TrainingState
from kdedge.training.run import Run
from kdedge.training.source import Source
from kdedge.training.students import Student
from kdedge.training.supervised import score
from kdedge.training.tune import faster_precision
from kdedge.training.variant import Variant

__all__ = [
    "Journal",
    "Parts",
    "best_so_far",
    "choose_engine",
    "fit_card",
    "loop_config",
    "read_parts",
    "score_parts",
    "some",
]

Say = Callable[[str], None]
EPOCHS = {"teacher": 20.0, "scratch": 100.0, "transfer": 50.0, "label-kd": 20.0, "oneshot": 50.0, "maml": 20.0}


@dataclass(frozen=True)
class Parts:
    """The labelled images of a training, decoded."""

    classes: tuple[str, ...]
    train: Labelled
    val: Labelled | None
    test: Labelled | None


def read_parts(config: FitConfig, size: int, bars: Bars, say: Say) -> Parts:
    """Read all images at ``size`` pixels; raises DataError as the readers do, and for leaks."""
    files = labelled_files(config)
    shape = Preprocess(size)
    train, val, test = (
        read_labelled(part, shape, name, bars, say)
        for part, name in zip(files, ("labelled", "validation", "test"), strict=True)
    )
    assert train is not None
    assert files[0] is not None
    refuse_leaks(train, val, test)
    return Parts(files[0].classes, train, val, test)


def choose_engine(config: FitConfig, student: Student, source: Source, preprocess: Preprocess) -> Engine:
    """The device, and the precision that was asked for or is the faster one (measured on a copy of the network)."""
    engine = Engine.choose()
    precision = config.precision
    if precision == "auto":
        probe = engine.place(copy.deepcopy(student)).train()
        shown = source.batch(np.arange(min(config.batch, len(source))), 0)

        def step(trial: Engine) -> None:
            with trial.autocast():
                loss = probe(as_input(shown, preprocess, trial)).float().square().mean()
            loss.backward()

        precision = faster_precision(engine, step)
    return Engine(engine.device, precision)


def loop_config(config: FitConfig, count: int, engine: Engine, say: Say) -> LoopConfig:
    """Settings of the loop for ``count`` items; says what they are."""
    seconds = 60.0 * config.minutes if config.minutes else None
    steps = config.steps
    if seconds is None and steps is None:
        steps = max(1, round((config.epochs or EPOCHS[config.method]) * max(1, count // min(config.batch, count))))
    length = f"{steps} steps" if steps else f"{seconds:.0f} s"
    say(
        f"training: {length}, batches of {config.batch}, on {engine.device.type} in {engine.precision}, {config.optimizer} "
        f"lr {config.lr:g} ({config.schedule}), {count:,} items"
    )
    return LoopConfig(
        steps,
        seconds,
        config.batch,
        config.lr,
        config.weight_decay,
        evaluations=config.evaluations,
        seed=config.seed,
        optimizer=config.optimizer,
        schedule=config.schedule,
    )


def score_parts(student: Student, parts: Parts, preprocess: Preprocess, engine: Engine) -> dict[str, float]:
    """``train_`` (at most 5000 images), ``val_`` and ``test_`` with the names of the classification scores."""
    given = {"train": some(parts.train), "val": parts.val, "test": parts.test}
    return {
        f"{name}_{key}": value
        for name, part in given.items()
        if part
        for key, value in score(student, part.images, part.labels, preprocess, engine).items()
    }


def some(part: Labelled, most: int = 5000) -> Labelled:
    """At most so many of the images, the same ones every time: a training score needs no more, and a teacher is slow."""
    if len(part.paths) <= most:
        return part
    chosen = np.sort(np.random.default_rng(0).permutation(len(part.paths))[:most])
    return replace(
        part, images=part.images[chosen], labels=part.labels[chosen], paths=[part.paths[i] for i in chosen.tolist()]
    )


@dataclass(frozen=True)
class Journal:
    """What a training on labels tells its run directory and its user while it goes on.

    Attributes:
        what: the accuracy is of, in words.
        best: where the weights of the best evaluation so far are kept.
    """

    run: Run
    config: FitConfig
    say: Say
    what: str
    best: Path

    def take_up(self, state: TrainingState) -> Metrics:
        """Put the last checkpoint of an interrupted run into ``state``; the scores of its best evaluation, if any."""
        if not self.run.last.is_file():
            return {}
        load_state(self.run.last, state)
        self.run.forget_after(state.step)
        self.say(f"resumed at step {state.step}")
        return best_so_far(self.best)

    def log(self, record: Metrics) -> None:
        """Told every record."""
        self.run.log(record)
        if "train_accuracy" in record:
            words = f"  epoch {record['epoch']:.1f}: {self.what}, training {record['train_accuracy']:.3f}"
            if "val_accuracy" in record:
                words += f", validation {record['val_accuracy']:.3f}"
            self.say(words)

    def save(self, state: TrainingState) -> None:
        """Told to keep a checkpoint to resume from."""
        save_state(self.run.last, state, {"network": self.config.network, "method": self.config.method})

    def keep(self, network: nn.Module, record: Metrics) -> None:
        """Told the averaged network whenever it is the best so far."""
        save_weights(self.best, network, {"scores": record})


def best_so_far(weights: Path) -> Metrics:
    """The scores that weights of an interrupted run were kept with; empty if there are none yet."""
    about = weights.with_suffix(".json")
    if not about.is_file():
        return {}
    try:
        return dict(json.loads(about.read_text(encoding="utf-8"))["scores"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{about}: the checkpoint is damaged; start anew with --overwrite.") from error


def fit_card(
    run: Run,
    config: FitConfig,
    classes: tuple[str, ...],
    student: Student,
    preprocess: Preprocess,
    scores: dict[str, float],
    variant: Variant,
    steps: int,
    images: int,
) -> ModelCard:
    """The card of a finished training."""
    versions = {name: importlib.metadata.version(name) for name in ("kdedge", "torch", "torchvision", "timm", "numpy")}
    return ModelCard(
        name=Path(run.path).resolve().name,
        labels=classes,
        preprocess=preprocess,
        student=config.network,
        teacher=config.teacher or "",
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        scores={key: round(value, 6) for key, value in scores.items()},
        provenance={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions,
            "method": config.method,
            "student_weights": student.weights,
            "variant": variant.to_dict(),
            "steps": steps,
            "seed": config.seed,
            "labelled_images": images,
        },
    )
