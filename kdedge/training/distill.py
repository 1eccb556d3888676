"""The paper's method in one call: imitate the teacher on unlabelled images, freeze, fit the head on the labelled ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.progress import Bars, no_bars
from kdedge.training.activations import ViewBank
from kdedge.training.checkpoint import load_weights, save_weights
from kdedge.training.config import DistillConfig, read_config, write_config
from kdedge.training.connector import with_connector
from kdedge.training.datasets import Material, gather, require_folders
from kdedge.training.distill_card import distill_card, short_name
from kdedge.training.distill_guard import Laps, full_disk_in_words, no_trace_of_a_mistake
from kdedge.training.distill_journal import DistillJournal
from kdedge.training.distill_setup import fit_targets, loop_of, settle_rules, settle_speed
from kdedge.training.engine import Engine, set_threads
from kdedge.training.feed import Live
from kdedge.training.labelled import LabelledProbe, fit_and_score
from kdedge.training.loop import LoopConfig, Metrics, start
from kdedge.training.losses import NORMALISED, loss_named
from kdedge.training.material_bank import bank_of, few_images
from kdedge.training.pretrain import Regressor, order_of, pretrain
from kdedge.training.run import Run
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.teachers import Teacher, TeacherInput, build_teacher
from kdedge.training.tune_teacher import tune_teacher
from kdedge.training.unfreeze import unfreeze
from kdedge.training.variant import PLAIN, Variant
from kdedge.training.views import split_rows, views_of_labelled

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
        images_per_s: that the student was trained on, evaluations not counted.
        data_wait: share (0-1) of that time that was spent waiting for data.
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
    images_per_s: float
    data_wait: float


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

    Started by ``accelerate launch`` or ``torchrun`` it is one of several processes; all of them return, the main one has
    written.

    Args:
        resume: go on in ``config.out``; its own settings are used, those of ``config`` are not looked at.
        overwrite: replace the run that is there.
        run: a run directory made before (it may hold other things), instead of making ``config.out``.
        minutes: asked for the time to train once the teacher is done, instead of ``config.minutes``.

    Raises:
        KdedgeError: whatever is wrong with the input, before anything slow begins where that can be known; a full disk, which
            leaves the last checkpoint whole.
    """
    engine = Engine.choose()
    if not engine.main:
        bars, say = no_bars, _silent
    if resume:
        config = replace(read_config(Run.create(config.out, resume=True).config), out=config.out)
    with full_disk_in_words(config.out), no_trace_of_a_mistake(config.out, engine, given=run is not None):
        return _distill(config, engine, resume, overwrite, run, minutes, bars, say)


def _distill(
    config: DistillConfig,
    engine: Engine,
    resume: bool,
    overwrite: bool,
    run: Run | None,
    minutes: Callable[[], float] | None,
    bars: Bars,
    say: Say,
) -> Distilled:
    set_threads()
    loss = loss_named(config.loss)
    if run is None:
        Run.check(config.out, resume, overwrite)
        engine.wait()  # nobody makes the folder before everybody has looked
    require_folders(config)
    config = settle_rules(config, engine)
    size = config.size or default_size(config.student)
    preprocess = default_preprocess(config.student, size)
    clock = Laps()
    given = TeacherInput(config.teacher_size, config.teacher_mean, config.teacher_std, config.teacher_color)
    teacher = build_teacher(config.teacher, config.teacher_weights, given, say)
    torch.manual_seed(config.seed)
    student = build_student(config.student, 2, config.student_weights, size, say)  # the head comes later
    clock.lap("prepare")

    material = gather(config, max(size, teacher.preprocess.size), bars, say)
    clock.lap("read")
    few = few_images(material, config, teacher)
    precision = engine.agree(tune_teacher(teacher, few, config.teacher_precision, say))
    tune_teacher(teacher, few, precision, say)  # every process computes as the main one chose
    config = replace(config, size=size, teacher_precision=precision)
    run = _begin(run, config, engine, resume, overwrite)  # only now: what is wrong with the input leaves no trace
    material, bank = bank_of(material, config, max(size, teacher.preprocess.size), teacher, engine, bars, say)
    clock.lap("teacher")

    if minutes:
        config = replace(config, minutes=minutes())
    rows, held = split_rows(bank, material, config)
    if bank.blocks is not None:  # with several processes, not all labelled rows are this one's
        rows = np.intersect1d(rows, np.concatenate(bank.blocks))
    targets, yardstick = fit_targets(config, teacher, bank, rows, engine, run)
    config, engine = settle_speed(config, engine, student, teacher.dim, bank, rows, preprocess, say)
    if engine.main:
        write_config(run.config, config)  # resumed with the same
    count = sum(engine.everyone(len(rows))) if bank.blocks is not None else len(rows)
    loop = loop_of(config, engine, count, say)
    order = order_of(bank, rows, loop, engine, config.epoch_images)
    torch.manual_seed(config.seed)  # whatever was measured before
    model = Regressor(student.trunk, student.dim, teacher.dim, normalised=config.loss in NORMALISED)
    engine.place(model)
    state = start(model, loop)
    journal = DistillJournal(run, config, say, f"{config.student} imitating {short_name(config.teacher)}")
    if resume:
        journal.take_up(state, engine.main)
        engine.wait()
    if engine.world > 1:
        torch.manual_seed(config.seed + 1000 * engine.rank)  # dropout differs between processes

    def log(record: Metrics) -> None:
        journal.log(record)
        if "cosine" in record:
            journal.keep(state.averaged.module, record)

    with bars(f"Distilling into {config.student}") as progress:
        trained = pretrain(
            state,
            bank,
            rows,
            held,
            targets,
            loss,
            preprocess,
            loop,
            engine,
            log,
            journal.save,
            progress,
            draw=config.epoch_images,
            yardstick=yardstick,
            live=Live(teacher, config.mixup) if config.teacher_mode == "live" else None,
            probe=LabelledProbe.of(material, preprocess, engine),
            note=journal.note,
            order=order,
        )
    averaged = state.averaged.module
    assert isinstance(averaged, Regressor)
    averaged.load_state_dict(load_weights(run.imitation))
    averaged.eval()
    best: Metrics = engine.agree(journal.best)
    student.trunk, variant = averaged.trunk, PLAIN
    if config.connector:
        kept = with_connector(averaged.trunk, averaged.adapter)
        student = Student(kept, averaged.adapter.out_features, 2, student.weights)
        variant = Variant(connector=averaged.adapter.out_features)
    clock.lap("distill")
    say(f"trained on {trained.images_per_s:.0f} images/s, {trained.data_wait:.1%} of the time waiting for data")

    scores = {f"heldout_{key}": float(best[key]) for key in ("r2", "cosine", "knn")}
    labelled_rows, labelled_classes = views_of_labelled(bank, material)
    if material.train:
        student, found = fit_and_score(
            student, averaged, teacher, targets, yardstick, material, bank, preprocess, engine, config.seed
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
    verdict = engine.agree(journal.verdict())
    card = distill_card(run, config, material, student, preprocess, scores, verdict.words, trained.steps, variant)
    if engine.main:
        save_weights(run.best, student, {"step": trained.steps, **scores})
        run.write_images(
            material.trained_paths(), material.heldout_paths(), material.heldout_labels(), material.trained_labels()
        )
        run.write_card(card)
        journal.draw(verdict)
    engine.wait()
    clock.lap("write")
    say(verdict.words)
    return Distilled(
        run=run,
        card=card,
        student=student,
        teacher=teacher,
        scores=scores,
        verdict=verdict.words,
        material=material,
        bank=bank,
        rows=rows,
        labelled_rows=labelled_rows,
        labelled_classes=labelled_classes,
        loop=loop,
        engine=engine,
        seconds=clock.seconds,
        images_per_s=trained.images_per_s,
        data_wait=trained.data_wait,
    )


def _begin(run: Run | None, config: DistillConfig, engine: Engine, resume: bool, overwrite: bool) -> Run:
    """The run directory, with the settings in it, so that what is killed from here on can go on with ``resume``."""
    if engine.main:
        run = run or Run.create(config.out, resume, overwrite)
        if not resume:
            write_config(run.config, config)
    engine.wait()
    return run or Run(Path(config.out))


def _silent(line: str) -> None:  # noqa: ARG001
    return
