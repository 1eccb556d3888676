"""The images of the tables: one fixed split, read once."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.data.check import read_images
from kdedge.data.folder import LabelledImages, class_folders, find_images
from kdedge.data.split import hold_out, split_per_class
from kdedge.errors import DataError
from kdedge.paper.plan import Scale
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.datasets import Labelled, read_labelled, refuse_leaks

__all__ = ["REST", "PaperData", "gather"]

Say = Callable[[str], None]
VALIDATION = 0.2  # of the labelled images of each class
TEACHER_VALIDATION = 0.1
REST = "rest"  # --teacher-data rest: the training images that no student sees the labels of


@dataclass(frozen=True)
class PaperData:
    """Decoded images, all of the same size.

    Attributes:
        train, val, test: the labelled ones of the fixed split.
        transfer: unlabelled images (N, S, S, 3), none of them among ``val`` and ``test``; N may be 0.
        teacher: classes, training and validation images that the teacher is fitted on.
        notes: what was left out or put in another thing's place, in sentences.
    """

    classes: tuple[str, ...]
    train: Labelled
    val: Labelled
    test: Labelled
    transfer: NDArray[np.uint8]
    teacher: tuple[tuple[str, ...], Labelled, Labelled]
    notes: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """Counts, notes and a digest of all pixels and labels, as JSON values."""
        digest = sha256(repr(self.classes).encode())
        for part in (self.train, self.val, self.test, *self.teacher[1:]):
            digest.update(part.images.tobytes())
            digest.update(part.labels.tobytes())
        digest.update(self.transfer.tobytes())
        counts = {name: len(getattr(self, name).labels) for name in ("train", "val", "test")}
        return {
            "classes": len(self.classes),
            **counts,
            "transfer": len(self.transfer),
            "teacher": len(self.teacher[1].labels),
            "notes": list(self.notes),
            "pixels": digest.hexdigest(),
        }


@dataclass(frozen=True)
class _Files:
    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    rest: LabelledImages | None


def gather(
    scale: Scale,
    bars: Bars,
    say: Say,
    *,
    data: Path | None = None,
    manifest: Path | None = None,
    transfer: Path | None = None,
    teacher_data: str | None = None,
    teacher_given: bool = False,
    k: int = 32,
    split_seed: int = 0,
) -> PaperData:
    """Draw the split and read it.

    Args:
        data: ``CLASS/image``, of which ``k`` a class are labelled and all others are test images; or ``train/CLASS`` and
            ``test/CLASS``, where the training images that are not drawn are unlabelled ones.
        manifest: a CSV file that holds the split, instead of ``data``.
        transfer: unlabelled images; without it, the training images that were not drawn.
        teacher_data: class folders for the teacher, or :data:`REST`; without it, the labelled training images.
        teacher_given: the teacher is there already, so nothing is said about its images.
        k: labelled images a class; a fifth of them are validation images.

    Raises:
        DataError: whatever is wrong with the images or what was asked for.
    """
    if (data is None) == (manifest is None):
        raise DataError("give the images with either --data DIR or --manifest CSV.")
    files = _drawn(data, k, split_seed) if data is not None else _listed(manifest, split_seed)
    notes: list[str] = []
    shape = Preprocess(scale.size)

    def read(part: LabelledImages, name: str) -> Labelled:
        found = read_labelled(part, shape, name, bars, say)
        assert found is not None
        return found

    test = _fewer(files.test, scale.limit_test, split_seed, "test images", notes)
    parts = read(files.train, "labelled"), read(files.val, "validation"), read(test, "test")
    refuse_leaks(*parts)
    unlabelled = _transfer(files, transfer, parts, scale, split_seed, notes, bars, say)
    if teacher_given:
        teacher = files.train.classes, parts[0], parts[1]
    else:
        teacher = _teacher(files, teacher_data, parts, scale, split_seed, notes, read)
    for note in notes:
        say(note)
    return PaperData(files.train.classes, *parts, unlabelled, teacher, tuple(notes))


def _drawn(data: Path, k: int, seed: int) -> _Files:
    if k < 2:
        raise DataError(f"--k is {k}; at least 2 labelled images a class are needed, one of them for validation.")
    two = (data / "train").is_dir() and (data / "test").is_dir()
    everything = class_folders(data / "train" if two else data)
    chosen, others = split_per_class(everything, k, seed)
    train, val = _aside(_pick(everything, chosen), VALIDATION, seed)
    rest = _pick(everything, others)
    if two:
        return _Files(train, val, class_folders(data / "test", everything.classes), rest)
    return _Files(train, val, rest, None)


def _listed(manifest: Path | None, seed: int) -> _Files:
    from kdedge.data.manifest import read_manifest

    assert manifest is not None
    found = read_manifest(manifest)
    if found.test is None or not len(found.test):
        raise DataError(f"{manifest}: has no test images; the tables need some.")
    if found.val is not None and len(found.val):
        return _Files(found.train, found.val, found.test, None)
    train, val = _aside(found.train, VALIDATION, seed)
    return _Files(train, val, found.test, None)


def _pick(data: LabelledImages, indices: NDArray[np.int64]) -> LabelledImages:
    chosen = indices.tolist()
    return LabelledImages(tuple(data.paths[i] for i in chosen), tuple(data.labels[i] for i in chosen), data.classes)


def _aside(data: LabelledImages, share: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """A share of each class, at least one image, for validation."""
    labels = np.asarray(data.labels)
    keep: list[int] = []
    put: list[int] = []
    for number, name in enumerate(data.classes):
        members = np.flatnonzero(labels == number)
        if len(members) < 2:
            raise DataError(f"class {name!r} has {len(members)} labelled image(s); 2 are needed, one for validation.")
        kept, aside = hold_out(len(members), share, seed + number)
        keep += members[kept].tolist()
        put += members[aside].tolist()
    return _pick(data, np.sort(np.asarray(keep, np.int64))), _pick(data, np.sort(np.asarray(put, np.int64)))


def _fewer(data: LabelledImages, limit: int, seed: int, name: str, notes: list[str]) -> LabelledImages:
    if not limit or len(data) <= limit:
        return data
    notes.append(f"{limit:,} of {len(data):,} {name} are used at this scale, drawn at random.")
    return _pick(data, hold_out(len(data), limit / len(data), seed)[1])


def _transfer(
    files: _Files,
    folder: Path | None,
    parts: tuple[Labelled, Labelled, Labelled],
    scale: Scale,
    seed: int,
    notes: list[str],
    bars: Bars,
    say: Say,
) -> NDArray[np.uint8]:
    paths = find_images(folder) if folder else list(files.rest.paths) if files.rest else []
    if not paths:
        notes.append(
            "No unlabelled images: students are pre-trained on the labelled training images alone (give --transfer DIR, or "
            "--data DIR with train/ and test/)."
        )
        return np.empty((0, scale.size, scale.size, 3), np.uint8)
    if scale.limit_transfer and len(paths) > scale.limit_transfer:
        notes.append(f"{scale.limit_transfer:,} of {len(paths):,} unlabelled images are used at this scale.")
        chosen = hold_out(len(paths), scale.limit_transfer / len(paths), seed)[1]
        paths = [paths[i] for i in chosen.tolist()]
    with bars(f"Reading {len(paths):,} transfer images") as progress:
        read = read_images(paths, Preprocess(scale.size), progress=progress)
    if read.bad:
        say(f"skipped {len(read.bad)} of {len(paths)} transfer images that cannot be read, {read.bad[0][0]} first")
    reserved = {image.tobytes() for part in parts for image in part.images}
    keep = [index for index, image in enumerate(read.images) if image.tobytes() not in reserved]
    if len(keep) < len(read.images):
        notes.append(
            f"{len(read.images) - len(keep)} transfer images that are also labelled or test images are left out."
        )
    return read.images[keep] if len(keep) < len(read.images) else read.images


def _teacher(
    files: _Files,
    given: str | None,
    parts: tuple[Labelled, Labelled, Labelled],
    scale: Scale,
    seed: int,
    notes: list[str],
    read: Callable[[LabelledImages, str], Labelled],
) -> tuple[tuple[str, ...], Labelled, Labelled]:
    if given is None:
        notes.append("The teacher that is fitted here sees the labelled training images alone (give --teacher-data).")
        return files.train.classes, parts[0], parts[1]
    if given == REST:
        if files.rest is None:
            raise DataError(
                "--teacher-data rest needs --data DIR with train/ and test/: nothing else is left to train on."
            )
        source = files.rest
        notes.append("The teacher has seen labels of training images that students only see without.")
    else:
        source = class_folders(given, least=2)
        notes.append(f"The teacher was fitted on {len(source):,} images of {len(source.classes)} classes of its own.")
    source = _fewer(source, scale.limit_teacher, seed, "images of the teacher", notes)
    train, val = (read(part, "teacher's") for part in _aside(source, TEACHER_VALIDATION, seed))
    refuse_leaks(train, val, parts[2])
    return source.classes, train, val
