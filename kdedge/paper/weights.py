"""A trained cell as a run directory, so that it can teach as ``run:DIR``, in the tables and anywhere else."""

import importlib.metadata
from pathlib import Path

from kdedge.card import ModelCard
from kdedge.preprocess import Preprocess
from kdedge.training.checkpoint import save_weights
from kdedge.training.fit_config import FitConfig, write_fit_config
from kdedge.training.run import Run
from kdedge.training.students import Student
from kdedge.training.variant import Variant

__all__ = ["leave_run"]


def leave_run(
    path: Path,
    name: str,
    network: str,
    variant: Variant,
    classes: tuple[str, ...],
    student: Student,
    preprocess: Preprocess,
    images: tuple[list[Path], list[Path]],
    scores: dict[str, float],
    seed: int,
) -> None:
    """Write config, card, weights and the list of images.

    Args:
        network, variant: what the student is built from.
        images: those that were trained on and those that were not (validation).
    """
    run = Run.create(path)
    told = FitConfig("teacher", network, str(path), train=str(images[0][0].parents[1]), size=preprocess.size, seed=seed)
    write_fit_config(run.config, told)
    save_weights(run.best, student, {"scores": scores})
    run.write_images(*images)
    versions = {package: importlib.metadata.version(package) for package in ("kdedge", "torch", "torchvision", "timm")}
    run.write_card(
        ModelCard(
            name=name,
            labels=classes,
            preprocess=preprocess,
            student=network,
            parameters=sum(parameter.numel() for parameter in student.parameters()),
            scores={key: round(value, 6) for key, value in scores.items()},
            provenance={"versions": versions, "method": f"paper, {name}", "variant": variant.to_dict(), "seed": seed},
        )
    )
