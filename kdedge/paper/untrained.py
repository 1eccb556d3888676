"""A network twice: as it was trained, and with the weights it had before."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.errors import KdedgeError, ModelError
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.connector import WithConnector
from kdedge.training.engine import Engine
from kdedge.training.inference import run_batches
from kdedge.training.names import split_name
from kdedge.training.onnx_reset import reset_weights
from kdedge.training.run import load_run
from kdedge.training.students import build_student, default_preprocess, default_size
from kdedge.training.teachers import OnnxTeacher, TeacherInput, build_teacher
from kdedge.training.variant import Variant

__all__ = ["Pair", "build_pair"]

Say = Callable[[str], None]
Embed = Callable[[NDArray[np.uint8], Progress], NDArray[np.float32]]
BATCH = 16


@dataclass(frozen=True)
class Pair:
    """One architecture, one preprocessing, two sets of weights.

    Attributes:
        name: of the network, as the teacher's.
        weights: what the trained one carries, in words.
        trained: square RGB images (N, S, S, 3), uint8, to penultimate activations (N, D).
        untrained: likewise, with random weights.
    """

    name: str
    weights: str
    preprocess: Preprocess
    trained: Embed
    untrained: Embed


def build_pair(
    name: str,
    weights: str = "pretrained",
    given: TeacherInput | None = None,
    seed: int = 0,
    say: Say = lambda _: None,
) -> Pair:
    """Build a trained network and an untrained one.

    Random weights are those that the network's own code draws; a BatchNorm then has mean 0 and variance 1. Of a run with a
    connector the activations are its concept logits, as when it teaches. ONNX networks: :func:`reset_weights`.

    Args:
        name: see :func:`build_teacher`; ``timm/efficientnet_lite0`` has weights in a package registry.
        weights: ``pretrained`` (published ones) or a file; runs and ONNX files have their own.
        given: preprocessing that overrides the network's own.
        seed: of the random weights.

    Raises:
        ModelError: unknown name, weights that cannot be had, or an ONNX network that cannot be reset.
        RunError: not a finished run.
    """
    given = given or TeacherInput()
    if name.startswith(("onnx:", "run:")):
        if weights != "pretrained":
            raise ModelError(f"{name}: has its own weights; leave out --teacher-weights.")
        return _onnx_pair(name, given, seed) if name.startswith("onnx:") else _run_pair(name, given, seed)
    split_name(name, "teacher")
    if weights in ("auto", "random"):
        raise ModelError(
            f"--teacher-weights {weights}: the trained network needs trained weights, pretrained or a file."
        )
    preprocess = given.override(default_preprocess(name, given.size or default_size(name)))
    student = build_student(name, 1, weights, preprocess.size, say)
    with _seeded(seed):
        fresh = build_student(name, 1, "random", preprocess.size)
    return Pair(name, student.weights, preprocess, _torch(student.trunk, preprocess), _torch(fresh.trunk, preprocess))


def _run_pair(name: str, given: TeacherInput, seed: int) -> Pair:
    if given != TeacherInput():
        raise ModelError(
            f"{name}: a run knows how its input is prepared; leave out --size, --teacher-mean and the like."
        )
    loaded = load_run(name.removeprefix("run:"))
    card = loaded.card
    with _seeded(seed):
        fresh = build_student(card.student, len(card.labels), size=card.preprocess.size)
        fresh = Variant.from_dict(card.provenance.get("variant", {})).apply(fresh)
    trained, untrained = (_torch(network.trunk, card.preprocess) for network in (loaded.student, fresh))
    return Pair(f"run:{card.name}", f"those of the run, {card.student}", card.preprocess, trained, untrained)


def _onnx_pair(name: str, given: TeacherInput, seed: int) -> Pair:
    trained = build_teacher(name, given=given)
    rest = name.removeprefix("onnx:")
    file, output = (rest, "") if Path(rest).is_file() else rest.rsplit(":", 1)
    tail = f":{output}" if output else ""
    try:
        model = reset_weights(onnx.load(file), seed)
    except KdedgeError as error:
        raise ModelError(f"{file}: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.onnx"
        onnx.save(model, str(path))
        untrained = OnnxTeacher(f"onnx:{path}{tail}", given)
    both = [_one_by_one(teacher.embed, trained.preprocess) for teacher in (trained, untrained)]
    return Pair(f"onnx:{Path(file).name}{tail}", "those of the file", trained.preprocess, *both)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch draws from ``seed`` inside, and goes on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _torch(trunk: nn.Module, preprocess: Preprocess) -> Embed:
    engine = Engine.choose()
    placed = engine.place(trunk).eval()

    def forward(batch: Tensor) -> Tensor:
        found: Tensor = placed.concept_logits(batch) if isinstance(placed, WithConnector) else placed(batch)
        return found

    return lambda images, progress: run_batches(forward, images, preprocess, engine, BATCH, progress)


def _one_by_one(embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]], preprocess: Preprocess) -> Embed:
    """Many ONNX files take one image at a time only."""

    def run(images: NDArray[np.uint8], progress: Progress) -> NDArray[np.float32]:
        found = []
        for done, image in enumerate(images, 1):
            found.append(embed(preprocess.fit(image)[None]))
            progress(done, len(images))
        return np.concatenate(found)

    return run
