"""The images of a distillation, decoded once: what is imitated, what is labelled, what is held out."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kdedge.data.check import read_images
from kdedge.data.folder import LabelledImages, class_folders, find_images
from kdedge.data.manifest import read_manifest
from kdedge.data.shard_list import expand_shards, is_sharded
from kdedge.data.split import hold_out
from kdedge.errors import DataError
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.config import DistillConfig
from kdedge.training.image_store import decoded
from kdedge.training.joined import Picked, RowArray

__all__ = [
    "Labelled",
    "LabelledFolders",
    "Material",
    "gather",
    "labelled_files",
    "read_labelled",
    "refuse_leaks",
    "require_folders",
]

MOST_HELDOUT = 4096
"""Transfer images that are held out, at most: an evaluation should not take longer the more images there are."""

Say = Callable[[str], None]


class LabelledFolders(Protocol):
    """The part of a run's settings that names labelled images."""

    @property
    def data(self) -> str | None: ...
    @property
    def train(self) -> str | None: ...
    @property
    def val(self) -> str | None: ...
    @property
    def test(self) -> str | None: ...
    @property
    def manifest(self) -> str | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Labelled:
    """Decoded labelled images: uint8 (N, S, S, 3) RGB with class numbers (N,)."""

    paths: list[Path]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """Everything a distillation sees.

    Attributes:
        transfer: unlabelled images, (N, S, S, 3); ``transfer_paths`` names them.
        train, val, test: labelled images; None where there are none.
        held_transfer, held_train: indices of the transfer and labelled images that no pre-training step sees; the
            regression is measured on them and on ``val``.
    """

    classes: tuple[str, ...]
    transfer_paths: list[Path]
    transfer: RowArray
    train: Labelled | None
    val: Labelled | None
    test: Labelled | None
    held_transfer: NDArray[np.int64]
    held_train: NDArray[np.int64]

    def trained_paths(self) -> list[Path]:
        """Images that are trained on, labelled ones first."""
        return self._paths(held=False)

    def trained_labels(self) -> list[int]:
        """Index of the class of each of these, -1 of transfer images."""
        aside = set(self.held_train.tolist())
        own = self.train.labels.tolist() if self.train else []
        found = [label for index, label in enumerate(own) if index not in aside]
        return found + [-1] * (len(self.trained_paths()) - len(found))

    def heldout_paths(self) -> list[Path]:
        """Images that measure the regression."""
        return self._paths(held=True) + (self.val.paths if self.val else [])

    def heldout_labels(self) -> list[int]:
        """Index of the class of each of these: known of validation images alone, which fitted no head; -1 for others."""
        return [-1] * len(self._paths(held=True)) + (self.val.labels.tolist() if self.val else [])

    def heldout_images(self) -> NDArray[np.uint8]:
        """Their pixels, in that order: (N, S, S, 3)."""
        parts = [self.train.images[self.held_train]] if self.train else []
        parts += [np.asarray(self.transfer[self.held_transfer])] + ([self.val.images] if self.val else [])
        return np.concatenate(parts)

    def _paths(self, held: bool) -> list[Path]:
        found: list[Path] = []
        for paths, aside in (
            (self.train.paths if self.train else [], self.held_train),
            (self.transfer_paths, self.held_transfer),
        ):
            apart = set(aside.tolist())
            found += [path for index, path in enumerate(paths) if (index in apart) == held]
        return found


def require_folders(config: DistillConfig) -> None:
    """Look at the folders before anything slow begins; raises DataError as the readers do."""
    if config.transfer and is_sharded(config.transfer):
        expand_shards(config.transfer)
    elif config.transfer:
        find_images(config.transfer)
    if config.manifest:
        read_manifest(config.manifest)
    if labelled := config.data or config.train:
        classes = class_folders(labelled, least=2).classes
        for other in (config.val, config.test):
            if other:
                class_folders(other, classes)


def gather(config: DistillConfig, size: int, bars: Bars, say: Say) -> Material:
    """Read all images at ``size`` pixels.

    Labelled, validation and test images are taken out of the transfer set, whatever their file is called. The
    regression is measured on a share of the transfer images and on the validation images (where there are none, on the
    same share of the labelled ones): whole images, so that no view of them is trained on.

    Raises:
        DataError: from the folder readers; more than 5 % unreadable images; nothing left to train on.
    """
    fit = Preprocess(size)
    train_files, val_files, test_files = labelled_files(config)
    classes = train_files.classes if train_files else ()
    train, val, test = (
        read_labelled(files, fit, name, bars, say)
        for files, name in ((train_files, "labelled"), (val_files, "validation"), (test_files, "test"))
    )
    if train:
        refuse_leaks(train, val, test)
    paths: list[Path] = []
    images: RowArray = np.empty((0, size, size, 3), np.uint8)
    sharded = bool(config.transfer) and is_sharded(config.transfer or "")
    if config.transfer and not sharded:
        found = find_images(config.transfer)
        with bars(f"Reading {len(found):,} transfer images") as progress:
            read = decoded(found, fit, progress)
        _name_bad(read.bad, len(found), say)
        paths, images = [found[index] for index in read.kept], read.images
        seen = train if config.train_views else None  # a held-out transfer image must be no view that is trained on
        reserved = {_digest(image) for part in (val, test, seen) if part for image in part.images}
        keep = [index for index, image in enumerate(images) if _digest(image) not in reserved] if reserved else None
        if keep is not None and len(keep) < len(paths):
            say(f"left out {len(paths) - len(keep)} transfer images that are also labelled, validation or test images")
            paths, images = [paths[index] for index in keep], Picked(images, np.asarray(keep, np.int64))
    nothing = np.empty(0, np.int64)
    share = min(config.heldout, MOST_HELDOUT / max(len(paths), 1))
    held_transfer = hold_out(len(paths), share, config.seed)[1] if len(paths) > 1 else nothing
    held_train = nothing
    if train and config.train_views and not val and len(train.labels) > 1:
        held_train = hold_out(len(train.labels), config.heldout, config.seed)[1]
    trained = (
        len(paths) - len(held_transfer) + (len(train.labels) - len(held_train) if train and config.train_views else 0)
    )
    held = len(held_transfer) + len(held_train) + (len(val.labels) if val else 0)
    if not sharded and (trained < 2 or held < 2):
        raise DataError(
            f"{trained + held} images are too few to train on and to hold some out; give more with --transfer."
        )
    return Material(classes, paths, images, train, val, test, held_transfer, held_train)


def labelled_files(
    config: LabelledFolders,
) -> tuple[LabelledImages | None, LabelledImages | None, LabelledImages | None]:
    """The files of the training, validation and test images that the settings name, read from their class folders."""
    if config.manifest:
        listed = read_manifest(config.manifest)
        train, val = (listed.train, listed.val) if listed.val else _hold_out_per_class(listed.train, config.seed)
        return train, val, listed.test
    if config.data:
        everything = class_folders(config.data, least=2)
        train, val = _hold_out_per_class(everything, config.seed)
        return train, val, class_folders(config.test, everything.classes) if config.test else None
    if config.train:
        labelled = class_folders(config.train, least=2)
        test = class_folders(config.test, labelled.classes) if config.test else None
        if config.val:
            return labelled, class_folders(config.val, labelled.classes), test
        return labelled, None, test
    return None, None, None


def _hold_out_per_class(data: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """A fifth of each class, at least one image, for validation."""
    train: list[int] = []
    val: list[int] = []
    labels = np.asarray(data.labels)
    for label in range(len(data.classes)):
        members = np.flatnonzero(labels == label)
        keep, aside = hold_out(len(members), 0.2, seed + label)
        train += members[keep].tolist()
        val += members[aside].tolist()
    return _pick(data, train), _pick(data, val)


def _pick(data: LabelledImages, indices: list[int]) -> LabelledImages:
    paths, labels = (tuple(values[index] for index in indices) for values in (data.paths, data.labels))
    return LabelledImages(paths, labels, data.classes)  # type: ignore[arg-type]


def read_labelled(files: LabelledImages | None, fit: Preprocess, name: str, bars: Bars, say: Say) -> Labelled | None:
    """Decode labelled images at ``fit.size`` pixels; a few unreadable ones are named and skipped."""
    if files is None:
        return None
    with bars(f"Reading {len(files):,} {name} images") as progress:
        read = read_images(files.paths, fit, progress=progress)
    _name_bad(read.bad, len(files), say)
    labels = np.asarray(files.labels, np.int64)[read.kept]
    if name == "labelled":
        counts = np.bincount(labels, minlength=len(files.classes))
        if (empty := np.flatnonzero(counts == 0)).size:
            raise DataError(f"class {files.classes[empty[0]]!r} has no readable image.")
    return Labelled([files.paths[index] for index in read.kept], read.images, labels)


def _name_bad(bad: list[tuple[Path, str]], total: int, say: Say) -> None:
    if bad:
        say(f"skipped {len(bad)} of {total} images that cannot be read:")
        for path, reason in bad[:5]:
            say(f"  {path}: {reason}")


def refuse_leaks(train: Labelled, val: Labelled | None, test: Labelled | None) -> None:
    """Raise DataError, naming up to three pairs, if an image stands in two of the parts with the very same pixels."""
    for first, second, name in ((train, test, "training and test"), (val, test, "validation and test")):
        if first is None or second is None:
            continue
        seen = {_digest(image): path for image, path in zip(first.images, first.paths, strict=True)}
        pairs = [
            (seen[key], path)
            for image, path in zip(second.images, second.paths, strict=True)
            if (key := _digest(image)) in seen
        ]
        if pairs:
            named = "; ".join(f"{a} and {b}" for a, b in pairs[:3])
            more = f"; and {len(pairs) - 3} more" if len(pairs) > 3 else ""
            raise DataError(
                f"{len(pairs)} image(s) stand in both {name} images ({named}{more}); remove one of each pair."
            )


def _digest(image: NDArray[np.uint8]) -> bytes:
    return sha256(image.tobytes()).digest()
