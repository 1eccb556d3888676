"""What the methods of the tables share: the scale's training rules, a fit on labels, scores, and weights to pass on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.paper.material import PaperData
from kdedge.paper.plan import CONVNET9, TEACHER, Length, Method, Plan
from kdedge.paper.weights import leave_run
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.augment import Augment
from kdedge.training.datasets import Labelled
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig
from kdedge.training.run import load_run
from kdedge.training.source import Source, ViewSource
from kdedge.training.students import Student, build_student, default_preprocess
from kdedge.training.supervised import Criterion, fit_classifier, score, start_classifier
from kdedge.training.variant import Variant

__all__ = ["Fitted", "Workbench"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A network that was fitted on labels."""

    student: Student
    history: list[dict[str, Any]]
    steps: int


@dataclass(frozen=True)
class Workbench:
    """The images and the plan."""

    plan: Plan
    data: PaperData
    out: Path
    engine: Engine
    bars: Bars
    say: Say

    def loop(self, steps: int, batch: int, seed: int) -> LoopConfig:
        """The scale's training rules for so many steps."""
        scale = self.plan.scale
        return LoopConfig(
            steps,
            batch=batch,
            lr=scale.lr,
            weight_decay=scale.weight_decay,
            evaluations=min(scale.evaluations, steps),
            seed=seed,
            optimizer=scale.optimizer,
            schedule=scale.schedule,
        )

    def _length(self, method: Method) -> Length:
        scale = self.plan.scale
        if method.kind == "teacher":
            return scale.teacher
        if method.kind == "oneshot":
            return scale.oneshot
        if scale.convnet9 and method.network == CONVNET9:
            return scale.convnet9[0]
        return scale.transfer if method.kind == "transfer" else scale.labelled

    def _views(self, part: Labelled, seed: int) -> ViewSource:
        return ViewSource(part.images, Augment.named(self.plan.scale.augment), seed)

    def _build(self, method: Method) -> tuple[Student, Preprocess]:
        size = self.plan.scale.size_of(method.network)
        student = build_student(method.network, len(self.data.classes), method.weights, size, self.say)
        return student, default_preprocess(method.network, size)

    def _fit(
        self,
        method: Method,
        seed: int,
        student: Student,
        preprocess: Preprocess,
        source: Source,
        labels: NDArray[np.int64],
        val: Labelled,
        length: Length,
        *,
        criterion: Criterion | None = None,
        freeze: bool = False,
    ) -> Fitted:
        batch = self.plan.scale.batch
        loop = self.loop(length.of(len(source), batch), batch, seed)
        history: list[dict[str, Any]] = []
        with self.bars(f"Training {method.name}") as progress:
            done = fit_classifier(
                start_classifier(student, loop, self.engine, freeze, preprocess.size),
                source,
                labels,
                preprocess,
                loop,
                self.engine,
                validation=(val.images, val.labels),
                criterion=criterion,
                log=lambda record: history.append(dict(record)),
                progress=progress,
            )
        return Fitted(done.student, history, done.trained.steps)

    def _score(self, student: Student, part: Labelled, preprocess: Preprocess) -> dict[str, float]:
        found = score(student, part.images, part.labels, preprocess, self.engine)
        macro = {name: found[f"{name}_macro"] for name in ("f1", "precision", "recall")}
        return {**macro, "accuracy": found["accuracy"]}

    def _scores(self, student: Student, preprocess: Preprocess) -> dict[str, float]:
        parts = {"train": self.data.train, "val": self.data.val, "test": self.data.test}
        return {
            f"{name}_{key}": value
            for name, part in parts.items()
            for key, value in self._score(student, part, preprocess).items()
        }

    def _size(self, network: torch.nn.Module, preprocess: Preprocess) -> dict[str, Any]:
        count = sum(parameter.numel() for parameter in network.parameters())
        return {"input": f"{preprocess.size} px", "parameters": f"{count / 1e6:.2f} M"}

    # weights that other methods take up

    def _run_of(self, name: str, seed: int) -> Path:
        if name == TEACHER and self.plan.teacher is not None:
            return Path(self.plan.teacher.removeprefix("run:"))
        chosen = seed if seed in self.plan.seeds_of(self.plan.method(name)) else self.plan.seeds[0]
        return self.out / "cells" / f"{name}-seed{chosen}" / "run"

    def _trunk_of(self, name: str, seed: int) -> tuple[torch.nn.Module, int, Preprocess]:
        loaded = load_run(self._run_of(name, seed))
        return loaded.student.trunk, int(loaded.student.dim), loaded.card.preprocess

    def _leave(
        self,
        method: Method,
        seed: int,
        folder: Path,
        student: Student,
        preprocess: Preprocess,
        train: Labelled,
        scores: dict[str, float],
        connector: int = 0,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        network, variant = method.network, Variant(connector=connector)
        if method.weights == TEACHER and self.plan.teacher is not None:
            loaded = load_run(self._run_of(TEACHER, seed))
            network = loaded.card.student
            given = Variant.from_dict(loaded.card.provenance.get("variant", {}))
            variant = replace(given, connector=connector or given.connector)
        images = (train.paths, self.data.val.paths)
        leave_run(
            folder / "run",
            method.name,
            network,
            variant,
            classes or self.data.classes,
            student,
            preprocess,
            images,
            scores,
            seed,
        )
