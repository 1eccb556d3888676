"""The other form of the paper's second step (S11): the whole network is fine-tuned on the labels instead of the head alone."""

import copy
from collections.abc import Callable

from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.augment import Augment
from kdedge.training.datasets import Material
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, Metrics
from kdedge.training.source import ViewSource
from kdedge.training.students import Student
from kdedge.training.supervised import fit_classifier, score, start_classifier

__all__ = ["unfreeze"]

EVALUATIONS = 5


def unfreeze(
    student: Student,
    material: Material,
    augment: Augment,
    preprocess: Preprocess,
    engine: Engine,
    *,
    epochs: float,
    lr: float,
    batch: int,
    seed: int,
    bars: Bars,
    say: Callable[[str], None],
) -> tuple[Student, Metrics]:
    """Fine-tune a copy of a student that has its head already; a fresh view of each labelled image an epoch.

    With validation images the evaluation with the best accuracy on them is kept, otherwise the last one.

    Args:
        student: with the head of the frozen trunk; it is not changed.
        epochs: passes over the labelled images.
        lr: peak learning rate; far below that of the pre-training, or what was learned there is lost.

    Returns:
        The fine-tuned student in eval mode, and ``val_accuracy`` and ``test_accuracy`` (0-1) where there are such images.
    """
    assert material.train is not None
    images, labels = material.train.images, material.train.labels
    batch = min(batch, len(images))
    steps = max(1, round(epochs * len(images) / batch))
    loop = LoopConfig(steps, batch=batch, lr=lr, evaluations=min(EVALUATIONS, steps), seed=seed)
    source = ViewSource(images, augment, seed)
    val = (material.val.images, material.val.labels) if material.val else None
    with bars("Fine-tuning the whole network") as progress:
        done = fit_classifier(
            start_classifier(copy.deepcopy(student), loop, engine),
            source,
            labels,
            preprocess,
            loop,
            engine,
            validation=val,
            progress=progress,
        )
    scores = {
        f"{name}_accuracy": score(done.student, part.images, part.labels, preprocess, engine)["accuracy"]
        for name, part in (("val", material.val), ("test", material.test))
        if part
    }
    if val is None:
        say("no validation images, so the last step of the fine-tuning is kept; --data or --val would let it choose")
    return done.student, scores
