"""What every training on labels needs before and after it: images, precision, length, card."""

import copy
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kdedge.card import ModelCard
from kdedge.errors import RunError
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.datasets import Labelled, labelled_files, read_labelled, refuse_leaks
from kdedge.training.engine import Engine
from kdedge.training.fit_config import FitConfig
from kdedge.training.inference import as_input
from kdedge.training.loop import LoopConfig, Metrics
from kdedge.training.run import Run
from kdedge.training.source import Source
from kdedge.training.students import Student
from kdedge.training.variant import Variant

__all__ = ["Parts", "best_so_far", "choose_engine", "fit_card", "loop_config", "read_parts", "some"]

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

        precision = engine.faster_precision(step)
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


def some(part: Labelled, most: int = 5000) -> Labelled:
    """At most so many of the images, the same ones every time: a training score needs no more, and a teacher is slow."""
    if len(part.paths) <= most:
        return part
    chosen = np.sort(np.random.default_rng(0).permutation(len(part.paths))[:most])
    return replace(
        part, images=part.images[chosen], labels=part.labels[chosen], paths=[part.paths[i] for i in chosen.tolist()]
    )


def best_so_far(run: Run) -> Metrics:
    """The scores of the best evaluation of an interrupted run; empty if there was none yet."""
    about = run.best.with_suffix(".json")
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
