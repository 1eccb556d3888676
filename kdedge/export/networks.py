"""Untrained networks as ONNX files, for timing an architecture without training it."""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch

import kdedge
from kdedge.card import ModelCard
from kdedge.errors import ExportError
from kdedge.export.graph import write_card
from kdedge.export.quantize import quantize_int8
from kdedge.export.targets import target_for
from kdedge.export.to_onnx import export_fp32
from kdedge.files import atomic_path, cache_dir
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.batchnorm import reestimate
from kdedge.training.students import build_student

__all__ = ["network_onnx"]

_PASSES, _BATCH, _CALIBRATION_IMAGES = 3, 8, 16


def network_onnx(
    name: str,
    size: int,
    precision: Literal["fp32", "int8"],
    classes: int = 1000,
    progress: Progress | None = None,
) -> Path:
    """An ONNX file of the network ``name`` with random weights, built on first use and kept in the cache.

    The weights are seeded; the BatchNorm statistics are those of noise, so that activations have the size they have in
    a trained network. The labels are the numbers of the classes. Only the time it takes means anything.

    Args:
        name: as given to ``--student``.
        size: height and width of the input, pixels.

    Raises:
        ExportError: unknown precision, or the network cannot be exported.
        ModelError: unknown name.
    """
    if precision not in ("fp32", "int8"):
        raise ExportError(f"precision {precision!r} is not known; choose fp32 or int8.")
    target = target_for("x86")
    parts = (name, size, classes, precision, kdedge.__version__, target)
    key = repr((*parts, *(version(package) for package in ("torch", "onnx", "onnxruntime"))))
    stem = f"{name.replace('/', '-')}-{size}-{classes}-{sha256(key.encode()).hexdigest()[:12]}"
    path = cache_dir("networks") / f"{stem}.{precision}.onnx"
    if path.exists():
        return path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build_student(name, classes, weights="random", size=size)
        reestimate(student, (torch.randn(_BATCH, 3, size, size) for _ in range(_PASSES)))
    preprocess = Preprocess(size)
    card = ModelCard(
        name=name,
        labels=tuple(str(number) for number in range(classes)),
        preprocess=preprocess,
        student=name,
        precision=precision,
        target=target.name,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        notes="Untrained, random weights: for timing only, its answers mean nothing.",
    )
    with atomic_path(path) as temporary, TemporaryDirectory(prefix="kdedge-") as folder:
        fp32 = Path(folder) / "fp32.onnx"
        export_fp32(student, size, fp32 if precision == "int8" else temporary)
        if precision == "int8":
            noise = np.random.default_rng(0).integers(0, 256, (_CALIBRATION_IMAGES, size, size, 3), np.uint8)
            quantize_int8(fp32, temporary, noise, preprocess, "minmax", target=target, progress=progress)
        write_card(temporary, card)
    return path
