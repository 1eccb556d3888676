"""The paper's method in one call: imitate the teacher on unlabelled images, freeze, fit the head on the labelled ones."""

import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars, no_bars
from kdedge.training.activations import ViewBank, build_bank
from kdedge.training.checkpoint import load_state, save_state, save_weights
from kdedge.training.config import DistillConfig, read_config, write_config
from kdedge.training.connector import with_connector
from kdedge.training.curves import draw_curves
from kdedge.training.datasets import Material, gather, require_folders
from kdedge.training.engine import Engine, set_threads
from kdedge.training.inference import as_input, run_batches
from kdedge.training.labelled import fit_and_score
from kdedge.training.loop import LoopConfig, Metrics, TrainingState, start
from kdedge.training.losses import loss_named
from kdedge.training.pretrain import Regressor, pretrain, regression_scores, settle_batchnorm
from kdedge.training.run import Run
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.targets import Standardize
from kdedge.training.teachers import Teacher, TeacherInput, build_teacher
from kdedge.training.unfreeze import unfreeze
from kdedge.training.variant import PLAIN, Variant
from kdedge.training.verdict import verdict
from kdedge.training.views import split_rows, to_view, views_of_labelled

__all__ = ["Distilled", "distill"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Distilled:
    """A finished distillation, with what later steps (baselines, reports) can use again.

    Attributes:
        scores: as in the card.
        material, bank: the images and their views; the bank's first rows show the transfer images, then the labelled ones.
        rows: rows of the bank that were trained on.
        labelled_rows, labelled_classes: rows of the bank that show labelled images, and their class numbers.
        seconds: wall time by step.
    """

    run: Run
    card: ModelCard
    student: Student
    teacher: Teacher
    scores: dict[str, float]
    verdict: str
    material: Material
    bank: ViewBank
    rows: NDArray[np.int64]
    labelled_rows: NDArray[np.int64]
    labelled_classes: NDArray[np.int64]
    loop: LoopConfig
    engine: Engine
    seconds: dict[str, float]


def distill(
    config: DistillConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    run: Run | None = None,
    minutes: Callable[[], float] | None = None,
    bars: Bars = no_bars,
    say: Say = print,
) -> Distilled:
    """Distil a teacher into a student and leave a run directory.

    Args:
        resume: go on in ``config.out``; its own settings are used, those of ``config`` are not looked at.
        overwrite: replace the run that is there.
        run: a run directory made before (it may hold other things), instead of making ``config.out``.
        minutes: asked for the time to train once the teacher is done, instead of ``config.minutes``.

    Raises:
        KdedgeError: whatever is wrong with the input, before anything slow begins where that can be known.
    """
    if resume:
        config = replace(read_config(Run.create(config.out, resume=True).config), out=config.out)
    set_threads()
    loss = loss_named(config.loss)
    if run is None:
        Run.check(config.out, resume, overwrite)
    require_folders(config)
    size = config.size or default_size(config.student)
    preprocess = default_preprocess(config.student, size)
    clock = _Clock()
    given = TeacherInput(config.teacher_size, config.teacher_mean, config.teacher_std, config.teacher_color)
    teacher = build_teacher(config.teacher, config.teacher_weights, given, say)
    torch.manual_seed(config.seed)
    student = build_student(config.student, 2, config.student_weights, size, say)  # the head comes later
    clock.lap("prepare")

    material = gather(config, max(size, teacher.preprocess.size), bars, say)
    clock.lap("read")
    images, views = to_view(material, config)
    with bars(f"Teacher sees {sum(views):,} views") as progress:
        bank = build_bank(images, views, teacher, config.augment, config.seed, progress)
    say(
        f"teacher: {teacher.name}, {teacher.dim}-d activations of {len(bank):,} views ({'cached' if bank.reused else 'new'})"
    )
    clock.lap("teacher")

    if minutes:
        config = replace(config, minutes=minutes())
    rows, held = split_rows(bank, material, config)
    standardize = Standardize.fit(bank.activations[rows])
    if config.loss == "bce" and getattr(teacher, "concepts", False):
        standardize = Standardize.identity(teacher.dim)
    engine, loop = _settings(config, student, teacher, bank, rows, preprocess, say)
    run = run or Run.create(config.out, resume, overwrite)  # only now: what is wrong with the input leaves no trace
    if not resume:
        write_config(run.config, replace(config, size=size, precision=engine.precision))  # resumed with the same
    model = Regressor(student.trunk, student.dim, teacher.dim)
    engine.place(model)
    state = start(model, loop)
    if resume and run.last.is_file():
        load_state(run.last, state)
        run.forget_after(state.step)
        say(f"resumed at step {state.step}")
    best: dict[str, Any] = {"cosine": -2.0, "weights": None, "scores": {}}

    def log(record: Metrics) -> None:
        run.log(record)
        if "cosine" in record:
            say(
                f"  epoch {record['epoch']:.1f}: held-out R2 {record['r2']:.3f}, cosine {record['cosine']:.3f}, "
                f"k-NN {record['knn']:.2f}"
            )
            if record["cosine"] > best["cosine"]:
                weights = {key: value.detach().clone() for key, value in state.averaged.module.state_dict().items()}
                best.update(cosine=record["cosine"], weights=weights, scores=record)

    def save(now: TrainingState) -> None:
        save_state(run.last, now, {"student": config.student, "teacher": config.teacher})

    with bars(f"Distilling into {config.student}") as progress:
        trained = pretrain(
            state,
            bank,
            rows,
            held,
            standardize,
            loss,
            preprocess,
            loop,
            engine,
            log,
            save,
            progress,
            draw=config.epoch_images,
        )
    averaged = state.averaged.module
    assert isinstance(averaged, Regressor)
    if best["weights"] is not None:
        averaged.load_state_dict(best["weights"])
    else:  # resumed after the last step
        settle_batchnorm(averaged, bank, rows, preprocess, engine, config.seed)
        predicted = run_batches(averaged, np.asarray(bank.views[held]), preprocess, engine)
        best["scores"] = regression_scores(standardize(bank.activations[held]), predicted)
    averaged.eval()
    student.trunk, variant = averaged.trunk, PLAIN
    if config.connector:
        kept = with_connector(averaged.trunk, averaged.adapter)
        student = Student(kept, averaged.adapter.out_features, 2, student.weights)
        variant = Variant(connector=averaged.adapter.out_features)
    clock.lap("distill")

    scores = {f"heldout_{key}": float(best["scores"][key]) for key in ("r2", "cosine", "knn")}
    labelled_rows, labelled_classes = views_of_labelled(bank, material)
    if material.train:
        student, found = fit_and_score(
            student, averaged, teacher, standardize, material, bank, preprocess, engine, config.seed
        )
        scores |= found
        if config.head == "unfrozen":
            student, tuned = unfreeze(
                student,
                material,
                config.augment,
                preprocess,
                engine,
                epochs=config.head_epochs,
                lr=config.head_lr,
                batch=config.batch,
                seed=config.seed,
                bars=bars,
                say=say,
            )
            scores |= {f"frozen_{key}": scores[key] for key in tuned} | tuned
    clock.lap("head")
    words = verdict(best["scores"])
    card = _card(run, config, material, student, preprocess, scores, words, trained.steps, variant)
    save_weights(run.best, student, {"step": trained.steps, **scores})
    run.write_images(material.trained_paths(), material.heldout_paths())
    run.write_card(card)
    draw_curves(run.history(), run.path / "curves.png", title=f"{config.student} imitating {_short(config.teacher)}")
    clock.lap("write")
    say(words)
    return Distilled(
        run=run,
        card=card,
        student=student,
        teacher=teacher,
        scores=scores,
        verdict=words,
        material=material,
        bank=bank,
        rows=rows,
        labelled_rows=labelled_rows,
        labelled_classes=labelled_classes,
        loop=loop,
        engine=engine,
        seconds=clock.seconds,
    )


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _settings(
    config: DistillConfig,
    student: Student,
    teacher: Teacher,
    bank: ViewBank,
    rows: NDArray[np.int64],
    preprocess: Preprocess,
    say: Say,
) -> tuple[Engine, LoopConfig]:
    """Resolve what was left open: precision, length."""
    engine = Engine.choose()
    precision = config.precision
    if precision == "auto":
        precision = _measured_precision(engine, config, student, teacher, bank, rows, preprocess)
    engine = Engine(engine.device, precision)
    seconds = 60.0 * config.minutes if config.minutes else None
    steps = config.steps
    if seconds is None and steps is None:
        items = min(config.epoch_images or len(rows), len(rows))
        steps = max(1, round((config.epochs or 10.0) * items / config.batch))
    loop = LoopConfig(
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
    length = f"{steps} steps" if steps else f"{seconds:.0f} s"
    say(
        f"training: {length}, batches of {config.batch}, on {engine.device.type} in {precision}, "
        f"{config.optimizer} lr {config.lr:g} {config.schedule}, loss {config.loss}, {len(rows):,} views"
    )
    return engine, loop


def _measured_precision(
    engine: Engine,
    config: DistillConfig,
    student: Student,
    teacher: Teacher,
    bank: ViewBank,
    rows: NDArray[np.int64],
    preprocess: Preprocess,
) -> str:
    """Time a step on a copy of the network, so that measuring leaves no trace in the weights."""
    import copy

    probe = engine.place(Regressor(copy.deepcopy(student.trunk), student.dim, teacher.dim)).train()
    chosen = np.asarray(bank.views[rows[: config.batch]])

    def step(trial: Engine) -> None:
        with trial.autocast():
            loss = probe(as_input(chosen, preprocess, trial)).float().square().mean()
        loss.backward()

    return engine.faster_precision(step)


def _short(teacher: str) -> str:
    return teacher.rsplit("/", 1)[-1] if teacher.startswith("onnx:") else teacher


def _card(
    run: Run,
    config: DistillConfig,
    material: Material,
    student: Student,
    preprocess: Preprocess,
    scores: dict[str, float],
    words: str,
    steps: int,
    variant: Variant,
) -> ModelCard:
    versions = {name: importlib.metadata.version(name) for name in ("kdedge", "torch", "torchvision", "timm", "numpy")}
    counts = {
        "transfer_images": len(material.transfer_paths),
        "labelled_images": len(material.train.paths) if material.train else 0,
        "heldout_images": len(material.heldout_paths()),
    }
    return ModelCard(
        name=run.path.resolve().name,
        labels=material.classes,
        preprocess=preprocess,
        student=config.student,
        teacher=_short(config.teacher),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        scores={key: round(value, 6) for key, value in scores.items() if np.isfinite(value)},
        provenance={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions,
            "student_weights": student.weights,
            "steps": steps,
            "seed": config.seed,
            "loss": config.loss,
            "verdict": words,
            "head": config.head,
            "variant": variant.to_dict(),
            **counts,
        },
    )
