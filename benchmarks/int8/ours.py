"""kdedge's side: the file that an export of a run delivers, at the size the network was trained at or another."""

import json
import shutil
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.errors import RunError
from kdedge.export.guard import Limits
from kdedge.export.recipe import ExportOptions
from kdedge.export.sources import export_run
from kdedge.export.targets import target_for
from kdedge.files import write_json
from kdedge.training.run import load_run

__all__ = ["CALIBRATION", "Delivered", "adopt", "calibration_images", "deliver", "size_of", "training_of"]

CALIBRATION = 300
"""Images an export calibrates with."""


@dataclass(frozen=True)
class Delivered:
    """What an export came to.

    Attributes:
        fp32: the file the int8 one was made of, and the peers' files are made of.
        path: the file to deploy.
        precision: of that file.
        how: what became of the attempt at int8, in words.
        seconds: that the whole export took.
    """

    fp32: Path
    path: Path
    precision: str
    how: str
    seconds: float


def deliver(run: Path, for_time_alone: bool = False) -> Delivered:
    """Export a run for this machine's processor, with the limits and choices of ``kdedge export RUN --int8``.

    Args:
        for_time_alone: the network was trained at another size, so its answers mean nothing: whatever they are, the int8
            file is taken if it is not slower than fp32.
    """
    began = time.monotonic()
    limits = Limits(max_drop=100.0, min_agreement=0.0, min_cosine=-1.0) if for_time_alone else Limits()
    made = export_run(run, ExportOptions(int8=True, target=target_for("x86"), limits=limits, overwrite=True))
    how = f"fp32: {made.missed}"
    if made.int8 and made.quantized:
        how = f"int8: {made.quantized.choice.method}, {made.quantized.guarded.taken.words()}"
    return Delivered(made.fp32.path, made.best.path, made.best.precision, how, time.monotonic() - began)


def calibration_images(run: Path) -> list[Path]:
    """The training images that :func:`deliver` calibrates with: evenly spaced over the run's."""
    loaded = load_run(run)
    if not loaded.heldout:
        raise RunError(f"{run}: the run has no held-out images, which its export would choose on.")
    paths = loaded.calibration
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(CALIBRATION, len(paths)), dtype=int))]


def size_of(run: Path) -> int:
    """Pixels of the network's input, by the run's card."""
    return int(json.loads((run / "card.json").read_text(encoding="utf-8"))["preprocess"]["size"])


def training_of(run: Path) -> dict[str, Any]:
    """How the run was trained: the settings that say how long and from what."""
    config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    found = config.get("fit") or config.get("distill") or {}
    return {
        key: found[key] for key in ("method", "epochs", "steps", "minutes", "batch", "lr", "weights") if key in found
    }


def adopt(source: Path, run: Path, size: int | None = None) -> Path:
    """Copy what an export needs of a finished run, the network now at ``size`` pixels; a copy that is there stays.

    Raises:
        RunError: ``source`` is no finished run.
    """
    if (run / "card.json").is_file():
        return run
    parts = (
        "config.toml",
        "images.json",
        "checkpoints/best.safetensors",
        "checkpoints/best.json",
        "result.json",
        "card.json",
    )
    for part in parts:
        if not (source / part).is_file():
            raise RunError(f"{source}: no finished run ({part} is missing).")
        (run / part).parent.mkdir(parents=True, exist_ok=True)
        if part == "card.json":
            card = json.loads((source / part).read_text(encoding="utf-8"))
            card["preprocess"]["size"] = size or card["preprocess"]["size"]
            write_json(run / part, card)  # the last, so that it tells a whole copy
        else:
            shutil.copy2(source / part, run / part)
    return run
