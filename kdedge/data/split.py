"""Few images a class to train with, all the others to test on; chosen at random, the same way on every machine."""

import csv
import io
import shutil
import tempfile
from hashlib import sha256
from os import link as hard_link
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.data.folder import LabelledImages
from kdedge.errors import DataError
from kdedge.files import write_text

__all__ = [
    "Indices",
    "hold_out",
    "place",
    "plain_names",
    "split_per_class",
    "take_per_class",
    "write_manifest",
    "write_split",
]

PINS = "pins_"  # how the folders of Pins Face Recognition begin

Indices = NDArray[np.int64]


def split_per_class(data: LabelledImages, k: int, seed: int) -> tuple[Indices, Indices]:
    """Draw ``k`` images of each class to train with; the others are for testing.

    The draw of a class depends on the seed, its name and its sorted paths alone: neither the
    order of ``data`` nor the other classes change it.

    Returns:
        Indices into ``data.paths`` for training (``k`` times the number of classes) and for testing, both ascending.

    Raises:
        DataError: ``k`` is below 1, the seed is negative, or a class has fewer than ``k + 1`` images.
    """
    if k < 1:
        raise DataError(f"k is {k}; at least one image a class is needed to train.")
    _refuse_negative(seed)
    members: list[list[int]] = [[] for _ in data.classes]
    for index, label in enumerate(data.labels):
        members[label].append(index)
    chosen: list[int] = []
    for name, indices in zip(data.classes, members, strict=True):
        if len(indices) < k + 1:
            raise DataError(
                f"class {name!r} has {len(indices)} image(s); {k} to train and at least 1 to test are needed. "
                f"Choose a k of at most {max(len(indices) - 1, 0)} or add images."
            )
        indices.sort(key=lambda index: data.paths[index].as_posix())
        digest = int.from_bytes(sha256(name.encode()).digest()[:8], "big")
        generator = np.random.Generator(np.random.PCG64([seed, digest]))
        chosen += [indices[i] for i in generator.choice(len(indices), size=k, replace=False)]
    train = np.sort(np.asarray(chosen, np.int64))
    return train, np.setdiff1d(np.arange(len(data), dtype=np.int64), train)


def take_per_class(data: LabelledImages, among: Indices, count: int, seed: int) -> tuple[Indices, Indices]:
    """Take ``count`` images of each class out of a draw, for validation; the same ones on every machine.

    Args:
        among: indices into ``data.paths``, the training draw.

    Returns:
        The indices that stay and those taken, both ascending.

    Raises:
        DataError: nothing of a class would stay.
    """
    if count < 1:
        return among, among[:0]
    part = LabelledImages(
        tuple(data.paths[i] for i in among.tolist()), tuple(data.labels[i] for i in among.tolist()), data.classes
    )
    least = min(part.counts())
    if count >= least:
        raise DataError(f"{count} validation images a class leave none of {least} to train on; take fewer.")
    taken, stays = split_per_class(part, count, seed)
    return among[stays], among[taken]


def plain_names(data: LabelledImages) -> LabelledImages:
    """Class names without the ``pins_`` that begins every folder of Pins Face Recognition; other names as they are.

    Raises:
        DataError: two classes would have the same name.
    """
    if not all(name.startswith(PINS) and name != PINS for name in data.classes):
        return data
    names = tuple(name.removeprefix(PINS).strip() for name in data.classes)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"two folders stand for the class {twice[0]!r}; rename one of them.")
    return LabelledImages(data.paths, data.labels, names)


def hold_out(count: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Put a share of ``count`` things aside at random.

    Args:
        share: 0 up to 1, excluding 1; the number put aside is rounded, at least one when the share is above zero,
            and leaves at least one.

    Returns:
        The indices to keep and those put aside, both ascending.
    """
    if not 0 <= share < 1:
        raise DataError(f"the share to hold out is {share}; it must lie between 0 and 1 (excluded).")
    _refuse_negative(seed)
    aside = min(max(round(count * share), 1 if share > 0 else 0), max(count - 1, 0))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count).astype(np.int64)
    return np.sort(order[aside:]), np.sort(order[:aside])


def write_manifest(
    data: LabelledImages, train: Indices, test: Indices, path: str | Path, *, val: Indices | None = None
) -> None:
    """Write the split as a CSV file that names the images where they are: below the file's folder by their relative path.

    Raises:
        DataError: the file exists.
    """
    path = Path(path)
    if path.exists():
        raise DataError(f"{path}: exists; name another file or remove it first.")
    home = path.resolve().parent
    rows: list[tuple[str, int, str, str]] = []
    for split, indices in (("train", train), ("val", val), ("test", test)):
        for index in indices.tolist() if indices is not None else []:
            image = data.paths[index].resolve()
            name = image.relative_to(home) if image.is_relative_to(home) else image
            rows.append((name.as_posix(), data.labels[index], data.classes[data.labels[index]], split))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _csv(rows))


def write_split(
    data: LabelledImages,
    train: Indices,
    test: Indices,
    out: str | Path,
    *,
    val: Indices | None = None,
    link: bool = False,
) -> LabelledImages:
    """Copy the parts to ``out/train/CLASS``, ``out/test/CLASS`` and, if there is one, ``out/val/CLASS``, with
    ``out/manifest.csv``.

    The folder appears whole or not at all. The manifest has the columns path (below ``out``), label, class_name, split.

    Args:
        link: hard links instead of copies, where the file system can.

    Returns:
        The written images, training part first, the test part last, with the classes of ``data``.

    Raises:
        DataError: ``out`` exists and is not empty, or an image cannot be copied.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not empty; name another folder or remove it first.")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, int, str, str]] = []
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        made = Path(temporary) / "split"
        for split, indices in (("train", train), ("val", val), ("test", test)):
            taken: set[str] = set()
            for index in indices.tolist() if indices is not None else []:
                label = data.labels[index]
                target = _free_name(Path(split) / data.classes[label], data.paths[index], taken)
                place(data.paths[index], made / target, link)
                rows.append((target.as_posix(), label, data.classes[label], split))
        write_text(made / "manifest.csv", _csv(rows))
        if out.exists():
            out.rmdir()
        made.replace(out)
    return LabelledImages(tuple(out / row[0] for row in rows), tuple(row[1] for row in rows), data.classes)


def _refuse_negative(seed: int) -> None:
    if seed < 0:
        raise DataError(f"the seed is {seed}; it must not be negative.")


def _free_name(folder: Path, source: Path, taken: set[str]) -> Path:
    """``folder/name``, numbered when a nested folder of the class holds a file of that name too."""
    target, number = folder / source.name, 0
    while target.as_posix().lower() in taken:
        number += 1
        target = folder / f"{source.stem}-{number}{source.suffix}"
    taken.add(target.as_posix().lower())
    return target


def place(source: Path, target: Path, link: bool) -> None:
    """Put a file at ``target``, as a hard link where ``link`` is asked for and the file system has them, else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            hard_link(source, target)
            return
        except OSError:
            link = False  # another file system, or one without links: copied below
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied to {target} ({error.strerror}).") from error


def _csv(rows: list[tuple[str, int, str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "class_name", "split"))
    writer.writerows(rows)
    return text.getvalue()
