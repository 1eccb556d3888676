"""Settings of a distillation, readable from and written to TOML."""

import shlex
import sys
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from kdedge.errors import RunError
from kdedge.files import write_text
from kdedge.training.augment import Augment

__all__ = ["DistillConfig", "read_config", "write_config"]

CHOICES = {
    "precision": ("auto", "fp32", "bf16"),
    "teacher_precision": ("auto", "fp32", "bf16"),
    "layout": ("auto", "channels_last", "contiguous"),
    "compile": ("auto", "on", "off"),
    "teacher_mode": ("cached", "live"),
    "targets": ("standardize", "phi-s", "raw"),
    "stream": ("auto", "on", "off"),
}
"""Settings that are one of a few words."""


@dataclass(frozen=True)
class DistillConfig:
    """What ``kdedge distill`` does; ``None`` means it was not given or is chosen by the command.

    Attributes:
        transfer: folder of unlabelled images, any nesting.
        data: class folders, of which a part is held out for validation; or ``train`` with optional ``val``; either with
            optional ``test``; or ``manifest``, a CSV file that holds all parts.
        size: the student's input, pixels.
        epochs: passes over all views; or ``steps``; or ``minutes`` of training.
        views: views of each transfer image; ``train_views``: of each labelled image (0 keeps them out of pre-training).
        heldout: share of the transfer images that is never trained on and measures R2, cosine and k-NN agreement.
        batch: images of a step, of all processes together; 0 for 32 on a CPU and 256 on a GPU.
        lr: peak learning rate; 0 for 3e-3 at a batch of 32, growing with the square root of the batch (AdamW's rule: Malladi
            et al., arXiv 2205.10287).
        targets: what the student regresses, made of the teacher's activations: ``standardize``, ``phi-s`` or ``raw``.
        teacher_mode: ``cached`` replays activations of ``views`` views; ``live`` asks the teacher in every step, about other
            views in every epoch, which ``mixup`` above 0 mixes in pairs.
        precision: ``fp32``, ``bf16`` or ``auto`` (the faster, measured at start); ``teacher_precision`` likewise, where the
            activations agree.
        layout: of images in memory, ``channels_last``, ``contiguous`` or ``auto`` (measured).
        compile: ``on``, ``off`` or ``auto`` (on a GPU, if it pays, measured; off on a CPU).
        threads: of a CPU; 0 for the number of cores, or half of it if that is faster (measured).
        stream: read tar shards anew in every epoch (``on``), or keep their decoded images on disk (``off``); ``auto`` keeps
            up to 32 GB.
        optimizer, schedule: as in :class:`~kdedge.training.loop.LoopConfig`.
        epoch_images: views that an epoch draws at random; 0 for all (the paper: 8192 of 102,400).
        head: ``frozen`` fits the last layer alone, ``unfrozen`` then fine-tunes the whole network on the labels (S11) for
            ``head_epochs`` with peak learning rate ``head_lr``.
        connector: keep the layer that predicts the teacher's concepts, and a sigmoid, in the student (S10).
    """

    teacher: str
    student: str
    out: str
    transfer: str | None = None
    data: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    manifest: str | None = None
    loss: str = "mse+cosine"
    targets: str = "standardize"
    teacher_mode: str = "cached"
    mixup: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    size: int | None = None
    batch: int = 0
    lr: float = 0.0
    weight_decay: float = 0.05
    views: int = 2
    train_views: int = 20
    heldout: float = 0.05
    evaluations: int = 4
    student_weights: str = "auto"
    teacher_weights: str = "pretrained"
    teacher_size: int | None = None
    teacher_mean: tuple[float, float, float] | None = None
    teacher_std: tuple[float, float, float] | None = None
    teacher_color: str | None = None
    precision: str = "auto"
    teacher_precision: str = "auto"
    layout: str = "auto"
    compile: str = "auto"
    threads: int = 0
    stream: str = "auto"
    seed: int = 0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    epoch_images: int = 0
    head: str = "frozen"
    head_epochs: float = 20.0
    head_lr: float = 3e-4
    connector: bool = False
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RunError(f"give one of --epochs, --steps and --minutes, not {' and '.join('--' + g for g in given)}.")
        for name in given:
            if getattr(self, name) <= 0:
                raise RunError(f"--{name} is {getattr(self, name)}; it must be above zero.")
        if sum(map(bool, (self.data, self.train, self.manifest))) > 1:
            raise RunError("give one of --data, --train and --manifest.")
        if self.manifest and (self.val or self.test):
            raise RunError("--manifest holds the validation and test images; give neither --val nor --test with it.")
        if not (self.transfer or self.data or self.train or self.manifest):
            raise RunError("nothing to learn from: give --transfer DIR (unlabelled images), --data DIR, or both.")
        if self.data and self.val:
            raise RunError("--data sets its own validation images aside; give --val together with --train DIR.")
        if (self.val or self.test) and not (self.train or self.data):
            raise RunError("--val and --test need labelled images to train on: give --train DIR.")
        if self.batch < 2 and self.batch != 0:
            raise RunError(f"--batch is {self.batch}; it must be at least 2 (BatchNorm compares images), or auto.")
        if not self.lr >= 0 or self.weight_decay < 0:
            raise RunError(
                f"--lr {self.lr:g} must be above zero (or auto) and --weight-decay {self.weight_decay:g} not below it."
            )
        if self.seed < 0:
            raise RunError(f"--seed is {self.seed}; it must not be negative.")
        if self.views < 1 or self.train_views < 0:
            raise RunError("--views must be at least 1 and --train-views at least 0.")
        if not 0 < self.heldout < 0.5:
            raise RunError(f"--heldout is {self.heldout}; it must lie between 0 and 0.5.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                option = "--" + name.replace("_", "-")
                raise RunError(f"{option} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        if not self.mixup >= 0:
            raise RunError(f"--mixup is {self.mixup:g}; it must not be negative.")
        if self.mixup and self.teacher_mode != "live":
            raise RunError(
                f"--mixup is {self.mixup:g}; above 0 it needs --teacher-mode live, for mixed images have no cached activations."
            )
        if self.threads < 0:
            raise RunError(f"--threads is {self.threads}; it must be at least 1, or auto.")
        if self.epoch_images < 0 or 0 < self.epoch_images < self.batch:
            raise RunError(f"--epoch-images is {self.epoch_images}; it must be 0 (all) or at least --batch.")
        if self.head not in ("frozen", "unfrozen"):
            raise RunError(f"--head is {self.head!r}; choose frozen or unfrozen.")
        if not (self.head_epochs > 0 and self.head_lr > 0):
            raise RunError("--head-epochs and --head-lr must be above zero.")
        if self.head == "unfrozen" and not (self.data or self.train or self.manifest):
            raise RunError("--head unfrozen fine-tunes on labels: give --data DIR or --train DIR.")
        if self.connector and self.loss != "bce":
            raise RunError("--connector keeps the layer that predicts concepts, which --loss bce trains; give both.")
        if self.size is not None and not 16 <= self.size <= 1024:
            raise RunError(f"--size is {self.size}; it must lie between 16 and 1024 pixels.")


def write_config(path: Path, config: DistillConfig) -> None:
    """Write the settings, and the command that made them, as TOML (settings that are None are left out)."""
    values = {key: value for key, value in asdict(config).items() if value is not None}
    values["augment"] = dict(values["augment"])
    command = shlex.join(["kdedge", *sys.argv[1:]])
    write_text(path, tomli_w.dumps({"command": command, "distill": values}))


def read_config(path: Path) -> DistillConfig:
    """Read what :func:`write_config` wrote; RunError names what cannot be read."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["distill"]
        known = {item.name for item in fields(DistillConfig)}
        if unknown := sorted(set(values) - known):
            raise RunError(f"{path}: unknown setting {unknown[0]!r}.")
        found = values.pop("augment", {})
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        augment: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        return DistillConfig(**values, augment=Augment(**augment))
    except OSError as error:
        raise RunError(f"{path}: cannot be read; is this a run directory of 'kdedge distill'?") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the settings of a run ({error}).") from error
