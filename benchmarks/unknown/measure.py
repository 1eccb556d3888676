"""What a student, and its teacher, make of people that were enrolled and of people that nobody knows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.unknown.material import Split, condition
from kdedge.data.folder import LabelledImages
from kdedge.preprocess import decode
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.decide import Decider
from kdedge.runtime.prototypes import Classes, unit_rows
from kdedge.runtime.ranking import softmax
from kdedge.runtime.rejection import auroc, threshold_for

__all__ = ["RATE", "SFACE_THRESHOLD", "SHOTS", "Tally", "interval", "knownness", "measure", "read", "sface"]

SHOTS = (1, 5, 16)
STUDENT = "student"
RATE = 0.05
"""False accepts asked for where one stranger's images set the threshold."""

SFACE_THRESHOLD = 0.363
"""Cosine above which OpenCV's documentation of SFace takes two images for one person."""

Rows = NDArray[np.int64]
Answer = Callable[[NDArray[Any], NDArray[Any]], tuple[Rows, NDArray[np.float64]]]
"""Images (by what a method knows of them) and the rows of enrolled images of each person to classes and scores."""


@dataclass(frozen=True)
class Part:
    """What is known of some images: the student's outputs, the teacher's, person and photograph."""

    probabilities: NDArray[np.float64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    teacher: NDArray[np.float32]
    labels: Rows
    conditions: NDArray[np.str_]


@dataclass(frozen=True)
class Read:
    """One experiment, run through the networks."""

    split: Split
    classifier: Classifier
    train: Part
    val: Part
    test: Part
    others: Part


def sface(path: Path) -> Callable[[Sequence[Path]], NDArray[np.float32]]:
    """The teacher, one image at a time: its 128 activations."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def embed(paths: Sequence[Path]) -> NDArray[np.float32]:
        made = [session.run(None, {name: decode(p).transpose(2, 0, 1)[None].astype(np.float32)})[0] for p in paths]
        return np.concatenate([np.asarray(one, np.float32).reshape(1, -1) for one in made])

    return embed


def read(split: Split, file: Path, teacher: Callable[[Sequence[Path]], NDArray[np.float32]]) -> Read:
    """Run the student's int8 file and the teacher on all images of an experiment."""
    classifier = Classifier(file, unknown="never")

    def part(images: LabelledImages) -> Part:
        fitted = [classifier.load(path) for path in images.paths]
        logits = np.concatenate([classifier.logits(classifier.card.preprocess.normalize([one])) for one in fitted])
        return Part(
            softmax(logits),
            logits,
            classifier.embeddings(fitted),
            teacher(images.paths),
            np.asarray(images.labels, np.int64),
            np.asarray([condition(path) for path in images.paths]),
        )

    return Read(split, classifier, *(part(getattr(split, name)) for name in ("train", "val", "test", "others")))


@dataclass
class Tally:
    """Successes and trials of each person in each experiment: what intervals are drawn over."""

    found: dict[str, dict[tuple[int, str], list[int]]] = field(default_factory=dict)

    def add(self, name: str, unit: tuple[int, str], hits: NDArray[np.bool_]) -> None:
        """Count ``hits`` of the quantity ``name`` for a person of an experiment."""
        sums = self.found.setdefault(name, {}).setdefault(unit, [0, 0])
        sums[0] += int(hits.sum())
        sums[1] += int(hits.size)


def interval(units: dict[tuple[int, str], list[int]], seed: int = 0) -> dict[str, Any]:
    """Mean over people, with 95 % of a bootstrap that draws people of experiments, whole."""
    shares = np.asarray([hits / trials for hits, trials in units.values() if trials])
    rng = np.random.default_rng(seed)
    means = shares[rng.integers(0, len(shares), (4000, len(shares)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(shares.mean()), "low": float(low), "high": float(high), "people": len(shares)}


def measure(found: Read, draws: int, tallies: dict[tuple[str, int], Tally]) -> None:
    """Enrol two of the unseen people from 1, 5 and 16 images; of the other two one sets the threshold, one is the stranger.

    All choices of them, ``draws`` draws of images each; ``tallies`` takes (method, shots) to counts.
    """
    others, names = found.others, found.split.others.classes
    rng = np.random.default_rng((found.split.number, 1))
    for shots in SHOTS:
        for pair in combinations(range(len(names)), 2):
            apart = [person for person in range(len(names)) if person not in pair]
            for _ in range(draws):
                taken = [_draw(rng, np.flatnonzero(others.labels == person), shots) for person in pair]
                for method, (on_test, on_others, default) in _methods(found, taken):
                    tally = tallies.setdefault((method, shots), Tally())
                    _count(found, tally, pair, apart, taken, on_test, on_others, default)
                    if method == STUDENT:
                        _count_before(found, tally)


def _draw(rng: np.random.Generator, rows: Rows, shots: int) -> Rows:
    return np.asarray(rng.choice(rows, shots, replace=False), np.int64)


Answers = tuple[Rows, NDArray[np.float64]]


def _methods(found: Read, taken: list[Rows]) -> Iterator[tuple[str, tuple[Answers, Answers, float]]]:
    """Classes and scores of test images and of the others, and the threshold to use without strangers, by method."""
    own, others, test = found.classifier.prototypes, found.others, found.test
    assert own is not None
    units = own.units(others.embeddings)
    counts = np.asarray([len(rows) for rows in taken], np.int64)
    enrolled = Classes(np.stack([units[rows].mean(0) for rows in taken]), counts)
    decider = Decider(own, enrolled, (), None)
    made = [decider(part.probabilities, part.embeddings) for part in (test, others)]
    answers = [(chances.argmax(1).astype(np.int64), scores) for chances, scores in made]
    yield STUDENT, (answers[0], answers[1], float(found.classifier.card.rejection["threshold"]))
    plain = found.train.embeddings.astype(np.float64).mean(0)
    yield "student, plain cosine", (*_nearest(found, taken, lambda part: part.embeddings - plain), float("nan"))
    yield "SFace, nearest mean", (*_nearest(found, taken, lambda part: part.teacher), SFACE_THRESHOLD)
    yield "SFace, nearest image", (*_matched(found, taken), SFACE_THRESHOLD)


def _nearest(found: Read, taken: list[Rows], space: Callable[[Part], NDArray[Any]]) -> tuple[Answers, Answers]:
    """Cosine with the mean of a class's unit vectors."""
    train, test, others = (unit_rows(space(part)) for part in (found.train, found.test, found.others))
    means = [train[found.train.labels == label].mean(0) for label in range(len(found.split.known))]
    classes = unit_rows(np.stack(means + [others[rows].mean(0) for rows in taken]))
    made = [images @ classes.T for images in (test, others)]
    return tuple((cosines.argmax(1), cosines.max(1)) for cosines in made)  # type: ignore[return-value]


def _matched(found: Read, taken: list[Rows]) -> tuple[Answers, Answers]:
    """Cosine with the image most alike: every training image of the known, every enrolled one of the others."""
    train, test, others = (unit_rows(part.teacher) for part in (found.train, found.test, found.others))
    images = np.concatenate([train, *(others[rows] for rows in taken)])
    known = len(found.split.known)
    whose = np.concatenate([found.train.labels, *(np.full(len(rows), known + i) for i, rows in enumerate(taken))])
    made = [part @ images.T for part in (test, others)]
    return tuple((whose[cosines.argmax(1)], cosines.max(1)) for cosines in made)  # type: ignore[return-value]


def _count(
    found: Read,
    tally: Tally,
    pair: tuple[int, ...],
    apart: list[int],
    taken: list[Rows],
    on_test: Answers,
    on_others: Answers,
    default: float,
) -> None:
    split, others, number = found.split, found.others, found.split.number
    known, names = len(split.known), split.others.classes
    bounds = [("default", default, person) for person in apart] if np.isfinite(default) else []
    for setter, stranger in permutations(apart, 2):
        scores = on_others[1][others.labels == setter]
        bounds.append(("strangers", threshold_for(scores, [], RATE).threshold, stranger))
    for place, person in enumerate(pair):
        mine = others.labels == person
        mine[taken[place]] = False
        elsewhere = mine & ~np.isin(others.conditions, others.conditions[taken[place]])
        right, unit = on_others[0] == known + place, (number, names[person])
        tally.add("enrolled", unit, right[mine])
        tally.add("enrolled, other photographs", unit, right[elsewhere])
        for kind, bound, _ in bounds:
            tally.add(f"enrolled, {kind}", unit, (right & (on_others[1] >= bound))[mine])
            tally.add(f"false reject, {kind}", unit, (on_others[1] < bound)[mine])
    right = on_test[0] == found.test.labels
    for label, name in enumerate(split.known):
        mine = found.test.labels == label
        tally.add("trained", (number, name), right[mine])
        for kind, bound, _ in bounds:
            tally.add(f"trained, {kind}", (number, name), (right & (on_test[1] >= bound))[mine])
    for kind, bound, stranger in bounds:
        passed = on_others[1][others.labels == stranger] >= bound
        tally.add(f"false accept, {kind}", (number, names[stranger]), passed)


def _count_before(found: Read, tally: Tally) -> None:
    """What the student is right on with nobody enrolled."""
    right = found.test.probabilities.argmax(1) == found.test.labels
    for label, name in enumerate(found.split.known):
        tally.add("trained before", (found.split.number, name), right[found.test.labels == label])


def knownness(found: Read) -> dict[str, dict[str, float]]:
    """Area under the ROC curve of scores that tell known from unknown, nobody enrolled.

    ``validation`` has each class in turn for a stranger (dropped from the logits; for cosines, from the prototypes);
    ``strangers`` are the people left out.
    """
    own = found.classifier.prototypes
    assert own is not None

    def energy(logits: NDArray[Any]) -> NDArray[np.float64]:
        top = logits.max(1).astype(np.float64)
        result: NDArray[np.float64] = top + np.log(np.exp(logits - top[:, None]).sum(1))
        return result

    centre = found.train.embeddings.astype(np.float64).mean(0)
    plain = unit_rows(found.train.embeddings - centre)
    classes = range(len(found.split.known))
    means = unit_rows(np.stack([plain[found.train.labels == label].mean(0) for label in classes]))
    scores: dict[str, tuple[Callable[[Part], NDArray[Any]], Callable[[NDArray[Any]], NDArray[Any]]]] = {
        "probability": (lambda part: part.logits, lambda rows: softmax(rows).max(1)),
        "logit": (lambda part: part.logits, lambda rows: rows.max(1)),
        "energy": (lambda part: part.logits, energy),
        "cosine": (lambda part: unit_rows(part.embeddings - centre) @ means.T, lambda rows: rows.max(1)),
        "cosine without nuisance": (
            lambda part: own.units(part.embeddings) @ unit_rows(own.means).T,
            lambda rows: rows.max(1),
        ),
    }
    made = {}
    for name, (rows_of, score) in scores.items():
        val = rows_of(found.val)
        missing = np.stack([np.delete(row, label) for row, label in zip(val, found.val.labels, strict=True)])
        made[name] = {
            "validation": auroc(score(val), score(missing)),
            "strangers": auroc(score(rows_of(found.test)), score(rows_of(found.others))),
        }
    return made
