"""A training on labels from folders to a run directory: teachers, and the paper's baselines S6 to S8."""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from kdedge.card import ModelCard
from kdedge.errors import DataError, ModelError, RunError
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars, no_bars
from kdedge.training.activations import build_bank
from kdedge.training.auxiliary import LEAST_INPUT, has_auxiliary
from kdedge.training.baselines.label_kd import label_kd
from kdedge.training.checkpoint import load_state, load_weights, save_state, save_weights
from kdedge.training.curves import draw_fit_curves
from kdedge.training.datasets import Labelled, labelled_files, read_labelled, refuse_leaks
from kdedge.training.engine import Engine, set_threads
from kdedge.training.fit_config import FitConfig, read_fit_config, write_fit_config
from kdedge.training.loop import LoopConfig, Metrics, TrainingState
from kdedge.training.run import Run
from kdedge.training.source import BankSource, Source, ViewSource
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.supervised import Criterion, cross_entropy, fit_classifier, score, start_classifier
from kdedge.training.teacher_run import RunTeacher
from kdedge.training.variant import Variant

__all__ = ["Fit", "fit"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """A finished training on labels; ``scores`` are those of the card."""

    run: Run
    card: ModelCard
    student: Student
    scores: dict[str, float]


@dataclass(frozen=True)
class _Parts:
    classes: tuple[str, ...]
    train: Labelled
    val: Labelled | None
    test: Labelled | None


def fit(
    config: FitConfig, *, resume: bool = False, overwrite: bool = False, bars: Bars = no_bars, say: Say = print
) -> Fit:
    """Train a network on labelled images and leave a run directory.

    The weights kept are those of the evaluation with the best validation accuracy (of the end, without validation images);
    test images are scored once, at the end.

    Args:
        resume: go on in ``config.out``; its own settings are used, those of ``config`` are not looked at.
        overwrite: replace the run that is there.

    Raises:
        KdedgeError: whatever is wrong with the input, before anything slow begins where that can be known.
    """
    if resume:
        config = replace(read_fit_config(Run.create(config.out, resume=True).config), out=config.out)
    set_threads()
    Run.check(config.out, resume, overwrite)
    files = labelled_files(config)
    size = config.size or default_size(config.network)
    preprocess = default_preprocess(config.network, size)
    teacher = _label_teacher(config, files[0].classes if files[0] else ())
    torch.manual_seed(config.seed)
    classes = files[0].classes if files[0] else ()
    student = build_student(config.network, len(classes), config.weights, size, say)
    variant = Variant(config.small_images, config.connector)
    student = variant.apply(student)
    parts = _read(config, max(size, teacher.preprocess.size if teacher else 0), bars, say)
    source, labels, criterion = _material(config, parts, teacher, bars)
    engine = _engine(config, student, source, preprocess)
    loop = _loop(config, len(source), engine, say)

    run = Run.create(config.out, resume, overwrite)
    if not resume:
        write_fit_config(run.config, replace(config, size=size, precision=engine.precision))
    state = start_classifier(student, loop, engine, config.freeze, size)
    if has_auxiliary(student) and not config.freeze and size < LEAST_INPUT:
        say(f"{config.network}: its auxiliary head needs {LEAST_INPUT} px, so at {size} px it trains without")
    best: Metrics = {}
    if resume and run.last.is_file():
        load_state(run.last, state)
        run.forget_after(state.step)
        best = _best_so_far(run)
        say(f"resumed at step {state.step}")

    def log(record: Metrics) -> None:
        run.log(record)
        if "train_accuracy" in record:
            words = f"  epoch {record['epoch']:.1f}: training accuracy {record['train_accuracy']:.3f}"
            if "val_accuracy" in record:
                words += f", validation accuracy {record['val_accuracy']:.3f}"
            say(words)

    def save(now: TrainingState) -> None:
        save_state(run.last, now, {"network": config.network, "method": config.method})

    def keep(network: Student, record: Metrics) -> None:
        save_weights(run.best, network, {"scores": record})

    validation = (parts.val.images, parts.val.labels) if parts.val else None
    with bars(f"Training {config.network}") as progress:
        done = fit_classifier(
            state,
            source,
            labels,
            preprocess,
            loop,
            engine,
            validation=validation,
            criterion=criterion,
            log=log,
            save=save,
            keep=keep,
            best=best,
            progress=progress,
        )
    trained = done.student
    if best and done.best == best:  # the best evaluation came before the resume
        trained.load_state_dict(load_weights(run.best))
        engine.place(trained)
    scores = {f"train_{k}": v for k, v in _score(trained, parts.train, preprocess, engine).items()}
    for name, part in (("val", parts.val), ("test", parts.test)):
        if part:
            scores |= {f"{name}_{k}": v for k, v in _score(trained, part, preprocess, engine).items()}
    save_weights(run.best, trained, {"scores": done.best})
    card = _card(run, config, classes, trained, preprocess, scores, variant, done.trained.steps, len(parts.train.paths))
    run.write_images(parts.train.paths, parts.val.paths if parts.val else [])
    run.write_card(card)
    draw_fit_curves(run.history(), run.path / "curves.png", title=f"{config.network}, {config.method}")
    return Fit(run, card, trained, scores)


def _score(student: Student, part: Labelled, preprocess: Preprocess, engine: Engine) -> dict[str, float]:
    return score(student, part.images, part.labels, preprocess, engine)


def _label_teacher(config: FitConfig, classes: tuple[str, ...]) -> RunTeacher | None:
    if config.method != "label-kd" or config.teacher is None:
        return None
    if not config.teacher.startswith("run:"):
        raise ModelError(
            f"{config.teacher}: label distillation imitates class probabilities, so its teacher must be a classifier of the "
            "same classes, run:DIR from 'kdedge teacher fit'."
        )
    teacher = RunTeacher(config.teacher.removeprefix("run:"))
    if teacher.classes != classes:
        raise DataError(
            f"{config.teacher}: knows {len(teacher.classes)} classes ({', '.join(teacher.classes[:3])}, ...), the images have "
            f"{len(classes)} ({', '.join(classes[:3])}, ...); they must be the same."
        )
    return teacher


def _read(config: FitConfig, size: int, bars: Bars, say: Say) -> _Parts:
    files = labelled_files(config)
    shape = Preprocess(size)
    train, val, test = (
        read_labelled(part, shape, name, bars, say)
        for part, name in zip(files, ("labelled", "validation", "test"), strict=True)
    )
    assert train is not None
    assert files[0] is not None
    refuse_leaks(train, val, test)
    return _Parts(files[0].classes, train, val, test)


def _material(
    config: FitConfig, parts: _Parts, teacher: RunTeacher | None, bars: Bars
) -> tuple[Source, np.ndarray[tuple[int], np.dtype[np.int64]], Criterion]:
    if teacher is None:
        source = ViewSource(parts.train.images, config.augment, config.seed)
        return source, parts.train.labels, cross_entropy(config.smoothing)
    images = parts.train.images
    with bars(f"Teacher sees {len(images) * config.views:,} views") as progress:
        bank = build_bank(images, [config.views] * len(images), teacher, config.augment, config.seed, progress)
    logits = teacher.logits(np.asarray(bank.activations))
    criterion = label_kd(logits, config.alpha, config.temperature)
    return BankSource(bank, np.arange(len(bank))), parts.train.labels[bank.image], criterion


def _engine(config: FitConfig, student: Student, source: Source, preprocess: Preprocess) -> Engine:
    import copy

    from kdedge.training.inference import as_input

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


def _loop(config: FitConfig, count: int, engine: Engine, say: Say) -> LoopConfig:
    seconds = 60.0 * config.minutes if config.minutes else None
    steps = config.steps
    if seconds is None and steps is None:
        default = {"teacher": 20.0, "scratch": 100.0, "transfer": 50.0, "label-kd": 20.0}[config.method]
        steps = max(1, round((config.epochs or default) * max(1, count // min(config.batch, count))))
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


def _best_so_far(run: Run) -> Metrics:
    about = run.best.with_suffix(".json")
    if not about.is_file():
        return {}
    try:
        return dict(json.loads(about.read_text(encoding="utf-8"))["scores"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{about}: the checkpoint is damaged; start anew with --overwrite.") from error


def _card(
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
