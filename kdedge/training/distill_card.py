"""The card of a finished distillation."""

import importlib.metadata
from datetime import UTC, datetime

import numpy as np

from kdedge.card import ModelCard
from kdedge.preprocess import Preprocess
from kdedge.training.config import DistillConfig
from kdedge.training.datasets import Material
from kdedge.training.run import Run
from kdedge.training.students import Student
from kdedge.training.variant import Variant

__all__ = ["distill_card", "short_name"]


def short_name(teacher: str) -> str:
    """A teacher's name without folders."""
    return teacher.rsplit("/", 1)[-1] if teacher.startswith("onnx:") else teacher


def distill_card(
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
    """What the student is, what it learned from and what it scores."""
    versions = {name: importlib.metadata.version(name) for name in ("kdedge", "torch", "torchvision", "timm", "numpy")}
    counts = {
        "transfer_images": len(material.transfer),
        "labelled_images": len(material.train.paths) if material.train else 0,
        "heldout_images": len(material.heldout_paths()),
    }
    return ModelCard(
        name=run.path.resolve().name,
        labels=material.classes,
        preprocess=preprocess,
        student=config.student,
        teacher=short_name(config.teacher),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        scores={key: round(value, 6) for key, value in scores.items() if np.isfinite(value)},
        provenance={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions,
            "student_weights": student.weights,
            "steps": steps,
            "seed": config.seed,
            "loss": config.loss,
            "targets": config.targets,
            "teacher_mode": config.teacher_mode,
            "verdict": words,
            "head": config.head,
            "variant": variant.to_dict(),
            **counts,
        },
    )
