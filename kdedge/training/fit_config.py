"""Settings of a training on labels, readable from and written to TOML."""

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

__all__ = ["METHODS", "FitConfig", "read_fit_config", "write_fit_config"]

METHODS = ("teacher", "scratch", "transfer", "label-kd", "oneshot", "maml")


@dataclass(frozen=True)
class FitConfig:
    """What ``kdedge teacher fit`` and ``kdedge train`` do.

    Attributes:
        method: one of :data:`METHODS`.
        network: family/name.
        data: class folders, of which a fifth is set aside for validation; or ``train`` with optional ``val``; either with
            optional ``test``; or ``manifest``, a CSV file that holds all parts.
        weights: ``random``, ``auto``, ``pretrained`` or a file, for the trunk.
        freeze: train the head (and the connector) alone.
        connector: number of concepts between trunk and head (S10); 0 for none.
        small_images: a ResNet's stem for images of 32 to 64 pixels.
        epochs: passes over the labelled images; or ``steps``; or ``minutes``.
        smoothing: of the labels, 0-1.
        teacher: ``run:DIR``, of label distillation.
        alpha, temperature: of label distillation (S8).
        views: views of each image that the teacher of a label distillation sees.
        margin: of the triplet loss (S4).
        ways, shots, queries: classes of a task of MAML (S5), images of each to adapt on and to be judged on; ``tasks`` make
            a step.
        inner_lr, inner_steps, first_order: the inner loop of MAML.
    """

    method: str
    network: str
    out: str
    data: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    manifest: str | None = None
    weights: str = "random"
    freeze: bool = False
    connector: int = 0
    small_images: bool = False
    size: int | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    optimizer: str = "adamw"
    schedule: str = "cosine"
    smoothing: float = 0.1
    evaluations: int = 8
    precision: str = "auto"
    teacher: str | None = None
    alpha: float = 0.1
    temperature: float = 1.0
    views: int = 8
    margin: float = 1.0
    ways: int = 5
    shots: int = 1
    queries: int = 5
    tasks: int = 4
    inner_lr: float = 0.01
    inner_steps: int = 1
    first_order: bool = False
    seed: int = 0
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise RunError(f"unknown method {self.method!r}; choose one of {', '.join(METHODS)}.")
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RunError(f"give one of --epochs, --steps and --minutes, not {' and '.join('--' + g for g in given)}.")
        for name in (*given, "batch", "lr", "temperature", "views", "evaluations", "margin", "inner_lr", "inner_steps"):
            if getattr(self, name) <= 0:
                raise RunError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be above zero.")
        if sum(map(bool, (self.data, self.train, self.manifest))) != 1:
            raise RunError("give the labelled images with one of --data DIR, --train DIR and --manifest FILE.")
        if self.manifest and (self.val or self.test):
            raise RunError("--manifest holds the validation and test images; give neither --val nor --test with it.")
        if self.data and self.val:
            raise RunError("--data sets its own validation images aside; give --val together with --train DIR.")
        if self.batch < 2:
            raise RunError(f"--batch is {self.batch}; it must be at least 2 (BatchNorm compares images).")
        for name in ("smoothing", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise RunError(f"--{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        if self.weight_decay < 0 or self.seed < 0 or self.connector < 0:
            raise RunError("--weight-decay, --seed and --connector must not be negative.")
        if self.method == "label-kd" and not self.teacher:
            raise RunError("label distillation needs a teacher that knows the classes: --teacher run:DIR.")
        if self.method == "transfer" and self.weights == "random":
            raise RunError(
                "transfer learning from random weights teaches nothing; give --weights pretrained or a file."
            )
        if self.tasks < 2:
            raise RunError(f"--tasks is {self.tasks}; a step needs at least 2.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise RunError(f"--precision is {self.precision!r}; choose auto, fp32 or bf16.")
        if self.size is not None and not 16 <= self.size <= 1024:
            raise RunError(f"--size is {self.size}; it must lie between 16 and 1024 pixels.")


def write_fit_config(path: Path, config: FitConfig) -> None:
    """Write the settings, and the command that made them, as TOML (settings that are None are left out)."""
    values = {key: value for key, value in asdict(config).items() if value is not None}
    values["augment"] = {key: value for key, value in values["augment"].items() if value is not None}
    command = shlex.join(["kdedge", *sys.argv[1:]])
    write_text(path, tomli_w.dumps({"command": command, "fit": values}))


def read_fit_config(path: Path) -> FitConfig:
    """Read what :func:`write_fit_config` wrote; RunError names what cannot be read."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["fit"]
        if unknown := sorted(set(values) - {item.name for item in fields(FitConfig)}):
            raise RunError(f"{path}: unknown setting {unknown[0]!r}.")
        augment: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.pop("augment", {}).items()
        }
        return FitConfig(**values, augment=Augment(**augment))
    except OSError as error:
        raise RunError(f"{path}: cannot be read; is this a run directory of a training on labels?") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the settings of a training on labels ({error}).") from error
