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
from kdedge.progress import Bars, Progress, no_bars
from kdedge.training.activations import ViewBank, build_bank, fit_to
from kdedge.training.checkpoint import load_state, save_state, save_weights
from kdedge.training.config import DistillConfig, read_config, write_config
from kdedge.training.curves import draw_curves
from kdedge.training.datasets import Labelled, Material, gather, require_folders
from kdedge.training.engine import Engine, set_threads
from kdedge.training.finetune import LinearHead, fit_head
from kdedge.training.inference import as_input, run_batches
from kdedge.training.loop import LoopConfig, Metrics, TrainingState, start
from kdedge.training.losses import loss_named
from kdedge.training.pretrain import Regressor, pretrain, regression_scores, settle_batchnorm
from kdedge.training.run import Run
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.targets import Standardize
from kdedge.training.teachers import Teacher, TeacherInput, build_teacher
from kdedge.training.verdict import verdict

__all__ = ["Distilled", "distill", "first_views", "views_of_labelled"]

Say = Callable[[str], None]
HEAD_VIEWS = 8  # views of each labelled image that the head is fitted on


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
    images, views = _to_view(material, config)
    with bars(f"Teacher sees {sum(views):,} views") as progress:
        bank = build_bank(images, views, teacher, config.augment, config.seed, progress)
    say(
        f"teacher: {teacher.name}, {teacher.dim}-d activations of {len(bank):,} views ({'cached' if bank.reused else 'new'})"
    )
    clock.lap("teacher")

    if minutes:
        config = replace(config, minutes=minutes())
    rows, held = _split_rows(bank, material, config)
    standardize = Standardize.fit(bank.activations[rows])
    engine, loop = _settings(config, student, teacher, bank, rows, preprocess, say)
    run = run or Run.create(config.out, resume, overwrite)  # only now: what is wrong with the input leaves no trace
    if not resume:
        write_config(run.config, replace(config, precision=engine.precision))  # resumed in the same one
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
        trained = pretrain(state, bank, rows, held, standardize, loss, preprocess, loop, engine, log, save, progress)
    averaged = state.averaged.module
    assert isinstance(averaged, Regressor)
    if best["weights"] is not None:
        averaged.load_state_dict(best["weights"])
    else:  # resumed after the last step
        settle_batchnorm(averaged, bank, rows, preprocess, engine, config.seed)
        predicted = run_batches(averaged, np.asarray(bank.views[held]), preprocess, engine)
        best["scores"] = regression_scores(standardize(bank.activations[held]), predicted)
    averaged.eval()
    student.trunk = averaged.trunk
    clock.lap("distill")

    scores = {f"heldout_{key}": float(best["scores"][key]) for key in ("r2", "cosine", "knn")}
    labelled_rows, labelled_classes = views_of_labelled(bank, material, len(material.transfer))
    if material.train:
        student = _with_head(
            student, material, bank, labelled_rows, labelled_classes, preprocess, engine, config, scores
        )
        for name, part in (("val", material.val), ("test", material.test)):
            if part:
                _score(name, part, student, averaged, teacher, standardize, preprocess, engine, scores)
        _probe_teacher(material, bank, labelled_rows, labelled_classes, teacher, config, scores)
    clock.lap("head")
    words = verdict(best["scores"])
    card = _card(run, config, material, student, preprocess, scores, words, trained.steps)
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


def _to_view(material: Material, config: DistillConfig) -> tuple[NDArray[np.uint8], list[int]]:
    """Transfer, labelled and validation images, and how many views of each the teacher sees."""
    parts, views = [material.transfer], [config.views] * len(material.transfer)
    if material.train:
        parts.append(material.train.images)
        views += [max(1, config.train_views)] * len(material.train.images)
    if material.val:
        parts.append(material.val.images)
        views += [1] * len(material.val.images)
    return np.concatenate(parts), views


def _split_rows(
    bank: ViewBank, material: Material, config: DistillConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the bank to pre-train on, and rows to measure on; views of one image never stand on both sides."""
    transfer, labelled = len(material.transfer), len(material.train.labels) if material.train else 0
    held = np.zeros(len(bank), bool)
    held[np.isin(bank.image, material.held_transfer)] = True
    held[np.isin(bank.image, transfer + material.held_train)] = True
    held[bank.image >= transfer + labelled] = True
    left_out = (bank.image >= transfer) & (bank.image < transfer + labelled) & (config.train_views == 0)
    return np.flatnonzero(~held & ~left_out), np.flatnonzero(held & ~left_out)


def views_of_labelled(bank: ViewBank, material: Material, transfer: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the bank that show labelled training images, and the class of each."""
    if material.train is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    number = bank.image - transfer
    rows = np.flatnonzero((number >= 0) & (number < len(material.train.labels)))
    return rows, material.train.labels[number[rows]]


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
        steps = max(1, round((config.epochs or 10.0) * len(rows) / config.batch))
    loop = LoopConfig(
        steps, seconds, config.batch, config.lr, config.weight_decay, evaluations=config.evaluations, seed=config.seed
    )
    length = f"{steps} steps" if steps else f"{config.minutes:g} minutes"
    say(
        f"training: {length} of {config.batch} on {engine.device.type} in {precision}, AdamW lr {config.lr:g}, "
        f"loss {config.loss}, {len(rows):,} views"
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


def _with_head(
    student: Student,
    material: Material,
    bank: ViewBank,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    preprocess: Preprocess,
    engine: Engine,
    config: DistillConfig,
    scores: dict[str, float],
) -> Student:
    """Freeze the trunk and fit the last layer on views of the labelled images."""
    few = first_views(bank.image[rows], HEAD_VIEWS)
    embeddings = run_batches(student.trunk, np.asarray(bank.views[rows[few]]), preprocess, engine)
    head = fit_head(embeddings, labels[few], bank.image[rows[few]], len(material.classes), config.seed)
    if np.isfinite(head.validation_accuracy):  # not with one image a class
        scores["cv_accuracy"] = head.validation_accuracy
    headed = Student(student.trunk, student.dim, len(material.classes), student.weights)
    _put(head, headed)
    engine.place(headed)
    return headed.eval()


def first_views(image: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions of the first ``count`` views of each image (views of an image stand together)."""
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]])
    position = np.arange(len(image)) - np.repeat(starts, np.diff(np.r_[starts, len(image)]))
    return np.flatnonzero(position < count)


def _put(head: LinearHead, student: Student) -> None:
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(head.weight))
        student.head.bias.copy_(torch.from_numpy(head.bias))


def _score(
    name: str,
    part: Labelled,
    student: Student,
    regressor: Regressor,
    teacher: Teacher,
    standardize: Standardize,
    preprocess: Preprocess,
    engine: Engine,
    scores: dict[str, float],
) -> None:
    logits = run_batches(student, part.images, preprocess, engine)
    scores[f"{name}_accuracy"] = float((logits.argmax(1) == part.labels).mean())
    target = standardize(_embed(teacher, part.images))
    reached = regression_scores(target, run_batches(regressor, part.images, preprocess, engine))
    scores[f"{name}_r2"], scores[f"{name}_cosine"] = reached["r2"], reached["cosine"]


def _probe_teacher(
    material: Material,
    bank: ViewBank,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    teacher: Teacher,
    config: DistillConfig,
    scores: dict[str, float],
) -> None:
    """The same head on the teacher's own activations: what the student could reach at best."""
    few = first_views(bank.image[rows], HEAD_VIEWS)
    head = fit_head(bank.activations[rows[few]], labels[few], bank.image[rows[few]], len(material.classes), config.seed)
    if np.isfinite(head.validation_accuracy):
        scores["teacher_cv_accuracy"] = head.validation_accuracy
    for name, part in (("val", material.val), ("test", material.test)):
        if part:
            scores[f"teacher_{name}_accuracy"] = float(
                (head.predict(_embed(teacher, part.images)) == part.labels).mean()
            )


def _embed(teacher: Teacher, images: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
    parts = []
    for begin in range(0, len(images), 16):
        parts.append(teacher.embed(fit_to(images[begin : begin + 16], teacher.preprocess)))
        if progress:
            progress(min(begin + 16, len(images)), len(images))
    return np.concatenate(parts)


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
            **counts,
        },
    )
