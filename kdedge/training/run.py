"""A run directory: what a training leaves behind and export picks up."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdedge.card import ModelCard
from kdedge.errors import RunError
from kdedge.files import write_json, write_text
from kdedge.training.checkpoint import load_weights
from kdedge.training.students import Student, build_student
from kdedge.training.variant import Variant

__all__ = ["LoadedRun", "Run", "load_run"]

UNFINISHED = re.compile(r"\.[\w.]+\.\w{8}\.(toml|jsonl?|png|safetensors)|\w+\.next\.json")
"""Names of files whose writing was not finished: see :func:`kdedge.files.atomic_path` and :mod:`kdedge.training.checkpoint`."""


@dataclass(frozen=True)
class Run:
    """Paths of a run directory."""

    path: Path

    @classmethod
    def check(cls, out: str | Path, resume: bool = False, overwrite: bool = False) -> "Run":
        """Refuse what :meth:`create` would refuse, and touch nothing.

        Raises:
            RunError: it exists and neither ``resume`` nor ``overwrite`` was asked for, or there is nothing to resume.
        """
        run = cls(Path(out))
        if run.path.is_file():
            raise RunError(f"{out}: is a file; --out wants a directory.")
        if resume:
            if not run.config.is_file():
                raise RunError(f"{out}: nothing to resume (no config.toml in it).")
            return run
        if run.path.is_dir() and any(not UNFINISHED.fullmatch(file.name) for file in run.path.iterdir()):
            if not overwrite:
                raise RunError(f"{out}: exists and is not empty; go on with --resume, start anew with --overwrite.")
            if not run.config.is_file():
                raise RunError(f"{out}: not a run directory (no config.toml in it), so --overwrite leaves it alone.")
        return run

    @classmethod
    def create(cls, out: str | Path, resume: bool = False, overwrite: bool = False) -> "Run":
        """Make the directory, in place of the run that is there with ``overwrite``; raises as :meth:`check` does."""
        run = cls.check(out, resume, overwrite)
        if not resume:
            if run.config.is_file():
                shutil.rmtree(run.path)
            run.path.mkdir(parents=True, exist_ok=True)
            run.sweep()
        return run

    @property
    def config(self) -> Path:
        """config.toml"""
        return self.path / "config.toml"

    @property
    def card(self) -> Path:
        """card.json"""
        return self.path / "card.json"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl"""
        return self.path / "metrics.jsonl"

    @property
    def images(self) -> Path:
        """images.json: which images were trained on and which were held out."""
        return self.path / "images.json"

    @property
    def last(self) -> Path:
        """The pre-training checkpoint to resume from."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def imitation(self) -> Path:
        """The best network of pre-training so far: trunk and adapter."""
        return self.path / "checkpoints" / "imitation.safetensors"

    @property
    def targets(self) -> Path:
        """What makes the student's targets of the teacher's activations."""
        return self.path / "checkpoints" / "targets.safetensors"

    @property
    def best(self) -> Path:
        """The finished student."""
        return self.path / "checkpoints" / "best.safetensors"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()}) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, without a last one that a full disk cut off."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_after(self, step: int) -> None:
        """Drop records past ``step``: a resumed run writes them again."""
        kept = [record for record in self.history() if record["step"] <= step]
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))

    def sweep(self) -> None:
        """Remove what a process that was killed left of files that it did not finish."""
        for folder in (self.path, self.last.parent):
            for file in folder.glob("*"):
                if UNFINISHED.fullmatch(file.name):
                    file.unlink(missing_ok=True)

    def write_card(self, card: ModelCard) -> None:
        """card.json"""
        write_json(self.card, card.to_dict())

    def write_images(
        self,
        trained: list[Path],
        heldout: list[Path],
        labels: Sequence[int] | None = None,
        trained_labels: Sequence[int] | None = None,
    ) -> None:
        """images.json

        Args:
            labels: index of the class of each held-out image whose label chose nothing and fitted nothing, -1 for others.
            trained_labels: index of the class of each image that was trained on, -1 for others.
        """
        resolved = {"trained": trained, "heldout": heldout}
        listed: dict[str, list[str] | list[int]] = {
            key: [str(path.resolve()) for path in paths] for key, paths in resolved.items()
        }
        listed["heldout_labels"] = [int(label) for label in (labels if labels is not None else [-1] * len(heldout))]
        listed["trained_labels"] = [int(label) for label in (trained_labels or [-1] * len(trained))]
        write_json(self.images, listed)


@dataclass(frozen=True)
class LoadedRun:
    """A finished run.

    Attributes:
        calibration: images that were trained on (labelled ones first).
        heldout: images that were never trained on and are not of the test set.
        heldout_labels: index of the class of each of these, -1 where it is not known.
        calibration_labels: likewise of the images that were trained on; -1 in runs of before.
    """

    path: Path
    card: ModelCard
    student: Student
    calibration: list[Path]
    heldout: list[Path]
    checkpoint: Path
    heldout_labels: list[int] = field(default_factory=list)
    calibration_labels: list[int] = field(default_factory=list)


def load_run(path: str | Path) -> LoadedRun:
    """Load what ``kdedge distill``, ``kdedge teacher fit`` or ``kdedge train`` finished.

    Raises:
        RunError: no such directory, not a run, not finished, or damaged.
    """
    run = Run(Path(path))
    if not run.path.is_dir():
        raise RunError(f"{path}: no such run directory.")
    if not run.config.is_file():
        raise RunError(f"{path}: not a run directory (no config.toml in it).")
    if not (run.card.is_file() and run.best.is_file() and run.images.is_file()):
        raise RunError(
            f"{path}: the run is not finished; go on with the command that began it and --resume --out {path}."
        )
    card = ModelCard.from_json(run.card.read_text(encoding="utf-8"), str(run.card))
    if not card.labels:
        raise RunError(f"{path}: the run had no labelled images, so its student has no head; distil with --data DIR.")
    student = build_student(card.student, len(card.labels), size=card.preprocess.size)
    student = Variant.from_dict(card.provenance.get("variant", {})).apply(student)
    try:
        student.load_state_dict(load_weights(run.best))
    except RuntimeError as error:
        raise RunError(
            f"{run.best}: the weights are not those of {card.student} with {len(card.labels)} labels."
        ) from error
    try:
        images = json.loads(run.images.read_text(encoding="utf-8"))
        trained, heldout = ([Path(name) for name in images[key]] for key in ("trained", "heldout"))
        labels = [int(label) for label in images.get("heldout_labels") or [-1] * len(heldout)]
        known = [int(label) for label in images.get("trained_labels") or [-1] * len(trained)]
        if len(labels) != len(heldout) or len(known) != len(trained):
            raise ValueError("labels of another number of images")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.images}: not the list of images of a run; distil again.") from error
    return LoadedRun(run.path, card, student.eval(), trained, heldout, run.best, labels, known)
