"""One-shot learning and MAML from folders to a run directory (the paper's S4 and S5)."""

from dataclasses import replace

import numpy as np
import torch

from kdedge.errors import DataError
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars, no_bars
from kdedge.training.baselines.maml import Adaptation
from kdedge.training.baselines.maml_train import TaskShape, judge, train_maml
from kdedge.training.baselines.oneshot import JUDGED, train_oneshot
from kdedge.training.checkpoint import load_weights, save_weights
from kdedge.training.curves import draw_fit_curves
from kdedge.training.datasets import Labelled, labelled_files
from kdedge.training.engine import Engine, set_threads
from kdedge.training.fit import Fit, Say
from kdedge.training.fit_config import FitConfig, read_fit_config, write_fit_config
from kdedge.training.fit_steps import Journal, Parts, choose_engine, fit_card, loop_config, read_parts, score_parts
from kdedge.training.inference import run_batches
from kdedge.training.loop import Metrics, start
from kdedge.training.prototypes import prototype_head
from kdedge.training.run import Run
from kdedge.training.source import ViewSource
from kdedge.training.students import Student, build_student, default_preprocess, default_size
from kdedge.training.supervised import settle
from kdedge.training.triplets import fixed_triplets, triplet_accuracy
from kdedge.training.variant import Variant

__all__ = ["fit_meta"]


def fit_meta(
    config: FitConfig, *, resume: bool = False, overwrite: bool = False, bars: Bars = no_bars, say: Say = print
) -> Fit:
    """Train an embedding with triplets, or weights to adapt from, and leave a run directory.

    The finished network classifies by the nearest class mean of the labelled images' embeddings, as a linear layer: that is
    what ``test_accuracy`` and its kin score. The method's own figures are ``*_triplet_accuracy`` (``oneshot``) and
    ``*_task_accuracy``, after adaptation, with ``_before`` and ``_interval`` (``maml``).

    Args:
        resume, overwrite: as in :func:`kdedge.training.fit.fit`.

    Raises:
        KdedgeError: whatever is wrong with the input, before anything slow begins where that can be known.
    """
    if resume:
        config = replace(read_fit_config(Run.create(config.out, resume=True).config), out=config.out)
    set_threads()
    Run.check(config.out, resume, overwrite)
    files = labelled_files(config)
    classes = files[0].classes if files[0] else ()
    size = config.size or default_size(config.network)
    preprocess = default_preprocess(config.network, size)
    torch.manual_seed(config.seed)
    maml = config.method == "maml"
    shape, inner = (
        TaskShape(config.ways, config.shots, config.queries),
        Adaptation(config.inner_lr, config.inner_steps, config.first_order),
    )
    student = build_student(config.network, config.ways if maml else len(classes), config.weights, size, say)
    variant = Variant(config.small_images)
    student = variant.apply(student)
    parts = read_parts(config, size, bars, say)
    _refuse_small(config, parts, shape)
    source, labels = ViewSource(parts.train.images, config.augment, config.seed), parts.train.labels
    engine = choose_engine(config, student, source, preprocess)
    loop = loop_config(config, len(source), engine, say)
    if maml:
        loop = replace(loop, batch=config.tasks)

    run = Run.create(config.out, resume, overwrite)
    if not resume:
        write_fit_config(run.config, replace(config, size=size, precision=engine.precision))
    model = student if maml else student.trunk
    engine.place(student)
    state = start(model, loop)
    kept = run.best.with_name("embedding.safetensors")  # best is the finished classifier
    journal = Journal(run, config, say, "tasks" if maml else "triplets", kept)
    best = journal.take_up(state) if resume else {}
    validation = (parts.val.images, parts.val.labels) if parts.val else None
    found: torch.nn.Module
    with bars(f"Training {config.network}") as progress:
        if maml:
            learned = train_maml(
                state,
                source,
                labels,
                preprocess,
                loop,
                engine,
                shape=shape,
                inner=inner,
                validation=validation,
                log=journal.log,
                save=journal.save,
                keep=journal.keep,
                best=best,
                progress=progress,
            )
            found, steps, top = learned.student, learned.trained.steps, learned.best
        else:
            embedded = train_oneshot(
                state,
                source,
                labels,
                preprocess,
                loop,
                engine,
                margin=config.margin,
                validation=validation,
                log=journal.log,
                save=journal.save,
                keep=journal.keep,
                best=best,
                progress=progress,
            )
            found, steps, top = embedded.trunk, embedded.trained.steps, embedded.best
    if best and top == best:  # the best evaluation came before the resume
        found.load_state_dict(load_weights(kept))
        engine.place(found)
    found.eval()
    own: Metrics = {}
    for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
        if part is None:
            continue
        if maml:
            assert isinstance(found, Student)
            judged = judge(found, part.images, part.labels, preprocess, engine, shape, inner, config.seed)
            own |= {f"{name}_task_{key}": value for key, value in judged.items()}
        else:
            own[f"{name}_triplet_accuracy"] = _triplets(found, part, preprocess, engine, config.seed)
    trunk = found.trunk if isinstance(found, Student) else found
    finished = _with_prototypes(trunk, student, parts, source, preprocess, engine, config.seed)
    scores = own | score_parts(finished, parts, preprocess, engine)
    save_weights(run.best, finished, {"scores": top})
    card = fit_card(run, config, parts.classes, finished, preprocess, scores, variant, steps, len(parts.train.paths))
    val = parts.val
    known = parts.train.labels.tolist()
    run.write_images(parts.train.paths, val.paths if val else [], val.labels.tolist() if val else None, known)
    run.write_card(card)
    draw_fit_curves(run.history(), run.path / "curves.png", title=f"{config.network}, {config.method}")
    return Fit(run, card, finished, scores)


def _refuse_small(config: FitConfig, parts: Parts, shape: TaskShape) -> None:
    """Tasks and triplets must be there in every part, or a long training would end with an error."""
    for name, part in (("training", parts.train), ("validation", parts.val), ("test", parts.test)):
        try:
            if part and config.method == "maml":
                shape.draw(part.labels, (config.seed,))
            elif part:
                fixed_triplets(part.labels, config.seed, len(part.labels))
        except DataError as error:
            raise DataError(f"{name} images: {error}") from error


def _triplets(trunk: torch.nn.Module, part: Labelled, preprocess: Preprocess, engine: Engine, seed: int) -> float:
    embeddings = run_batches(trunk, part.images, preprocess, engine)
    return triplet_accuracy(embeddings, fixed_triplets(part.labels, seed, JUDGED))


def _with_prototypes(
    trunk: torch.nn.Module,
    like: Student,
    parts: Parts,
    source: ViewSource,
    preprocess: Preprocess,
    engine: Engine,
    seed: int,
) -> Student:
    settle(trunk, source, preprocess, engine, seed)  # tasks leave running statistics alone
    trunk.eval()
    embeddings = run_batches(trunk, parts.train.images, preprocess, engine)
    head = prototype_head(embeddings, np.asarray(parts.train.labels), len(parts.classes))
    student = Student(trunk, like.dim, len(parts.classes), like.weights)
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(head.weight))
        student.head.bias.copy_(torch.from_numpy(head.bias))
    engine.place(student)
    return student.eval()
