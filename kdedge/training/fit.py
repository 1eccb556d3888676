"""A training on labels from folders to a run directory: teachers, and the paper's baselines S6 to S8."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from kdedge.card import ModelCard
from kdedge.errors import DataError, ModelError
from kdedge.progress import Bars, no_bars
from kdedge.training.activations import build_bank
from kdedge.training.auxiliary import LEAST_INPUT, has_auxiliary
from kdedge.training.baselines.label_kd import label_kd
from kdedge.training.checkpoint import load_weights, save_weights
from kdedge.training.curves import draw_fit_curves
from kdedge.training.datasets import labelled_files
from kdedge.training.engine import set_threads
from kdedge.training.fit_config import FitConfig, read_fit_config, write_fit_config
from kdedge.training.fit_steps import Journal, Parts, choose_engine, fit_card, loop_config, read_parts, score_parts
from kdedge.training.run import Run
from kdedge.training.source import BankSource, Source, ViewSource
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.supervised import Criterion, cross_entropy, fit_classifier, start_classifier
from kdedge.training.teacher_run import RunTeacher
from kdedge.training.variant import Variant

__all__ = ["Fit", "fit"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """A finished training on labels; ``scores`` are those of the card (``train_``: of at most 5000 images)."""

    run: Run
    card: ModelCard
    student: Student
    scores: dict[str, float]


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
    parts = read_parts(config, max(size, teacher.preprocess.size if teacher else 0), bars, say)
    source, labels, criterion = _material(config, parts, teacher, bars)
    engine = choose_engine(config, student, source, preprocess)
    loop = loop_config(config, len(source), engine, say)

    run = Run.create(config.out, resume, overwrite)
    if not resume:
        write_fit_config(run.config, replace(config, size=size, precision=engine.precision))
    state = start_classifier(student, loop, engine, config.freeze, size)
    if has_auxiliary(student) and not config.freeze and size < LEAST_INPUT:
        say(f"{config.network}: its auxiliary head needs {LEAST_INPUT} px, so at {size} px it trains without")
    journal = Journal(run, config, say, "accuracy", run.best)
    best = journal.take_up(state) if resume else {}
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
            log=journal.log,
            save=journal.save,
            keep=journal.keep,
            best=best,
            progress=progress,
        )
    trained = done.student
    if best and done.best == best:  # the best evaluation came before the resume
        trained.load_state_dict(load_weights(run.best))
        engine.place(trained)
    scores = score_parts(trained, parts, preprocess, engine)
    save_weights(run.best, trained, {"scores": done.best})
    card = fit_card(
        run, config, classes, trained, preprocess, scores, variant, done.trained.steps, len(parts.train.paths)
    )
    val = parts.val
    known = parts.train.labels.tolist()
    run.write_images(parts.train.paths, val.paths if val else [], val.labels.tolist() if val else None, known)
    run.write_card(card)
    draw_fit_curves(run.history(), run.path / "curves.png", title=f"{config.network}, {config.method}")
    return Fit(run, card, trained, scores)


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


def _material(
    config: FitConfig, parts: Parts, teacher: RunTeacher | None, bars: Bars
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
