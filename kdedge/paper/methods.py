"""The methods of the tables on top of kdedge's own trainings: each takes a method and a seed, and returns its scores."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdedge.errors import ModelError
from kdedge.paper.imitation import imitate, prepare, trunk_of, with_logistic_head
from kdedge.paper.plan import CONCEPTS, CONVNET9, TEACHER, Method
from kdedge.paper.runner import Outcome, Unavailable
from kdedge.paper.workbench import Workbench
from kdedge.preprocess import Preprocess
from kdedge.training.activations import build_bank
from kdedge.training.augment import Augment
from kdedge.training.baselines.label_kd import label_kd
from kdedge.training.baselines.oneshot import train_oneshot
from kdedge.training.connector import WithConnector
from kdedge.training.inference import run_batches
from kdedge.training.loop import start
from kdedge.training.run import load_run
from kdedge.training.source import BankSource
from kdedge.training.students import Student, build_student, default_preprocess
from kdedge.training.teacher_run import RunTeacher
from kdedge.training.triplets import draw_triplets, triplet_accuracy

__all__ = ["Lab"]

CONCEPT_COUNT = 2048
ALPHA, TEMPERATURE = 0.1, 1.0  # of label distillation, the paper's


@dataclass(frozen=True)
class Lab(Workbench):
    """A workbench whose :meth:`run` is what :func:`kdedge.paper.runner.run_cells` calls."""

    def run(self, method: Method, seed: int, folder: Path) -> Outcome:
        """Run a method; raises :class:`Unavailable` if published weights cannot be had."""
        torch.manual_seed(seed)
        kinds = {
            "teacher": self._teacher,
            "concepts": self._concepts,
            "oneshot": self._oneshot,
            "scratch": self._scratch,
            "transfer": self._transfer,
            "label-kd": self._label_kd,
            "feature-kd": self._feature_kd,
        }
        return kinds[method.kind](method, seed, folder)

    # what the others learn from

    def _teacher(self, method: Method, seed: int, folder: Path) -> Outcome:
        if self.plan.teacher is not None:
            loaded = load_run(self.plan.teacher.removeprefix("run:"))
            about = {"network": loaded.card.student, "given": self.plan.teacher, "classes": len(loaded.card.labels)}
            return Outcome({}, [], about | self._size(loaded.student, loaded.card.preprocess))
        classes, train, val = self.data.teacher
        size = self.plan.scale.size_of(method.network)
        weights = "auto" if method.weights == "random" else method.weights
        student = build_student(method.network, len(classes), weights, size, self.say)
        preprocess = default_preprocess(method.network, size)
        done = self._fit(
            method, seed, student, preprocess, self._views(train, seed), train.labels, val, self._length(method)
        )
        scores = {f"val_{k}": v for k, v in self._score(done.student, val, preprocess).items()}
        scores |= {f"train_{k}": v for k, v in self._score(done.student, train, preprocess).items()}
        if classes == self.data.classes:
            scores |= {f"test_{k}": v for k, v in self._score(done.student, self.data.test, preprocess).items()}
        self._leave(method, seed, folder, done.student, preprocess, train, scores, classes=classes)
        about = {"starts_from": student.weights, "images": len(train.labels), "steps": done.steps}
        return Outcome(scores, done.history, about | self._size(done.student, preprocess))

    def _concepts(self, method: Method, seed: int, folder: Path) -> Outcome:
        """The teacher's trunk, frozen but for BatchNorm statistics, and a connector and a head fitted on the labels (S10)."""
        trunk, dim, preprocess = self._trunk_of(method.needs[0], seed)
        if isinstance(trunk, WithConnector):  # a given teacher has one already; this one is fitted to these labels
            given: WithConnector = trunk
            trunk, dim = given.trunk, given.connector.in_features
        count = min(CONCEPT_COUNT, dim)
        connected = WithConnector(trunk.requires_grad_(False), dim, count)
        student = Student(connected, count, len(self.data.classes))
        train = self.data.train
        done = self._fit(
            method,
            seed,
            student,
            preprocess,
            self._views(train, seed),
            train.labels,
            self.data.val,
            self._length(method),
        )
        scores = self._scores(done.student, preprocess)
        self._leave(method, seed, folder, done.student, preprocess, train, scores, count)
        about = {"concepts": count, "steps": done.steps} | self._size(done.student, preprocess)
        return Outcome(scores, done.history, about)

    # the tables

    def _oneshot(self, method: Method, seed: int, folder: Path) -> Outcome:  # noqa: ARG002
        scale, train, val, test = self.plan.scale, self.data.train, self.data.val, self.data.test
        trunk: torch.nn.Module
        if method.weights == "random":
            student, preprocess = self._build(method)
            trunk = student.trunk
        else:
            trunk, _, preprocess = self._trunk_of(method.weights, seed)
        about: dict[str, Any] = {}
        paired = np.bincount(val.labels, minlength=len(self.data.classes)).min() > 1
        if not paired:
            about["notes"] = ["Validation classes of one image make no triplets: the last evaluation is kept."]
        batch = scale.batch
        loop = self.loop(self._length(method).of(len(train.labels), batch), batch, seed)
        history: list[dict[str, Any]] = []
        self.engine.place(trunk)
        with self.bars(f"Training {method.name}") as progress:
            done = train_oneshot(
                start(trunk, loop),
                self._views(train, seed),
                train.labels,
                preprocess,
                loop,
                self.engine,
                validation=(val.images, val.labels) if paired else None,
                log=lambda record: history.append(dict(record)),
                progress=progress,
            )
        scores = {"train_accuracy": done.best["train_accuracy"]}
        anchors = np.random.default_rng(0).integers(0, len(test.labels), scale.triplets)
        embeddings = run_batches(done.trunk, test.images, preprocess, self.engine)
        scores["test_accuracy"] = triplet_accuracy(embeddings, draw_triplets(test.labels, anchors, 0))
        about |= {"steps": done.trained.steps, "test_triplets": scale.triplets} | self._size(done.trunk, preprocess)
        return Outcome(scores, history, about)

    def _scratch(self, method: Method, seed: int, folder: Path) -> Outcome:
        student, preprocess = self._build(method)
        return self._labelled(method, seed, folder, student, preprocess)

    def _transfer(self, method: Method, seed: int, folder: Path) -> Outcome:
        if method.weights == "pretrained":
            size = self.plan.scale.size_of(method.network)
            try:
                student = build_student(method.network, len(self.data.classes), "pretrained", size, self.say)
            except ModelError as error:
                raise Unavailable(f"weights not available: {error}") from error
            preprocess = default_preprocess(method.network, size)
        else:
            trunk, dim, preprocess = self._trunk_of(method.weights, seed)
            student = Student(trunk, dim, len(self.data.classes), f"trunk of {method.weights}")
        return self._labelled(method, seed, folder, student, preprocess, freeze=True)

    def _label_kd(self, method: Method, seed: int, folder: Path) -> Outcome:  # noqa: ARG002
        teacher = RunTeacher(str(self._run_of(method.needs[0], seed)))
        images, scale = self.data.train.images, self.plan.scale
        with self.bars(f"Teacher sees {len(images) * scale.train_views:,} views") as progress:
            bank = build_bank(
                images, [scale.train_views] * len(images), teacher, Augment.named(scale.augment), 0, progress
            )
        criterion = label_kd(teacher.logits(np.asarray(bank.activations)), ALPHA, TEMPERATURE)
        student, preprocess = self._build(method)
        source = BankSource(bank, np.arange(len(bank), dtype=np.int64))
        labels = self.data.train.labels[bank.image]
        length = self._length(method)
        length = replace(length, epochs=length.epochs / scale.train_views)  # an item is a view here
        done = self._fit(method, seed, student, preprocess, source, labels, self.data.val, length, criterion=criterion)
        about = {"teacher": method.needs[0], "alpha": ALPHA, "T": TEMPERATURE, "steps": done.steps}
        return Outcome(
            self._scores(done.student, preprocess), done.history, about | self._size(done.student, preprocess)
        )

    def _feature_kd(self, method: Method, seed: int, folder: Path) -> Outcome:  # noqa: ARG002
        scale = self.plan.scale
        name = method.needs[0]
        teacher = RunTeacher(str(self._run_of(name, seed)))
        concepts = name == CONCEPTS
        lesson = prepare(teacher, self.data, scale, teacher.concepts, self.bars)
        student, preprocess = self._build(method)
        length = scale.convnet9[1] if scale.convnet9 and method.network == CONVNET9 else scale.pretraining
        items = min(scale.draw, len(lesson.rows)) if scale.draw else len(lesson.rows)
        loop = self.loop(length.of(items, scale.pretraining_batch), scale.pretraining_batch, seed)
        done = imitate(student, lesson, method.loss, preprocess, loop, self.engine, self.bars, scale.draw)
        trunk, dim = trunk_of(done, student.dim, concepts)
        history = done.history
        if scale.head == "logistic":
            headed, _ = with_logistic_head(trunk, dim, lesson, len(self.data.classes), preprocess, self.engine, seed)
        else:
            headed = Student(trunk, dim, len(self.data.classes))
            fitted = self._fit(
                method,
                seed,
                headed,
                preprocess,
                self._views(self.data.train, seed),
                self.data.train.labels,
                self.data.val,
                scale.transfer,
                freeze=True,
            )
            headed = fitted.student
            history = history + [record for record in fitted.history if "loss" not in record]
        scores = self._scores(headed, preprocess)
        scores |= {f"heldout_{key}": value for key, value in done.scores.items()}
        about = {"teacher": self.plan.teacher if self.plan.teacher and name == TEACHER else name, "loss": method.loss}
        about |= {"targets": "concept logits" if teacher.concepts else "standardised activations"}
        more: dict[str, Any] = {"pretraining_views": len(lesson.rows), "steps": loop.steps, "head": scale.head}
        return Outcome(scores, history, about | more | self._size(headed, preprocess))

    def _labelled(
        self,
        method: Method,
        seed: int,
        folder: Path,
        student: Student,
        preprocess: Preprocess,
        freeze: bool = False,
    ) -> Outcome:
        train = self.data.train
        done = self._fit(
            method,
            seed,
            student,
            preprocess,
            self._views(train, seed),
            train.labels,
            self.data.val,
            self._length(method),
            freeze=freeze,
        )
        scores = self._scores(done.student, preprocess)
        if any(method.name in other.needs for other in self.plan.methods):
            self._leave(method, seed, folder, done.student, preprocess, train, scores)
        about = {"starts_from": student.weights, "steps": done.steps} | self._size(done.student, preprocess)
        return Outcome(scores, done.history, about)
