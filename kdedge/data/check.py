"""Reading many images at once: a few bad ones are skipped and named, many stop the work."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from kdedge.data.folder import find_images
from kdedge.errors import DataError
from kdedge.preprocess import Image, Preprocess, decode
from kdedge.progress import Progress

__all__ = ["MAX_BAD", "BadImage", "FolderReport", "ReadImages", "check_folder", "read_images", "refuse_many_bad"]

MAX_BAD = 0.05
"""The share of unreadable images above which reading stops with an error."""

BadImage = tuple[Path, str]
"""An image that cannot be read, and why."""

WINDOW = 1024


@dataclass(frozen=True)
class ReadImages:
    """What :func:`read_images` read.

    Attributes:
        images: uint8 (N, size, size, 3), RGB.
        kept: for each image its index in the paths that were given, ascending.
        bad: the images that were skipped.
    """

    images: NDArray[np.uint8]
    kept: list[int]
    bad: list[BadImage]


def read_images(
    paths: Sequence[Path],
    preprocess: Preprocess,
    *,
    max_bad: float = MAX_BAD,
    into: str | Path | None = None,
    progress: Progress | None = None,
    workers: int = 2,
) -> ReadImages:
    """Decode images and fit them to ``preprocess.size``, in the order given.

    Args:
        max_bad: share (0-1) of unreadable images that is tolerated.
        into: a ``.npy`` file to keep the pixels in, mapped into memory, when they are too many for it; its last rows
            are unused when images were skipped, so take them from :attr:`ReadImages.images`.

    Raises:
        DataError: there is nothing to read, or the share of unreadable images is above ``max_bad``.
    """
    shape = (len(paths), preprocess.size, preprocess.size, 3)
    if not paths:
        raise DataError("there are no images to read.")
    if into is not None:
        Path(into).parent.mkdir(parents=True, exist_ok=True)
    images: NDArray[np.uint8] = np.empty(shape, np.uint8) if into is None else open_memmap(into, "w+", np.uint8, shape)

    def work(path: Path) -> Image | str:
        try:
            return preprocess.fit(decode(path))
        except DataError as error:
            return _reason(error, path)

    kept: list[int] = []
    bad: list[BadImage] = []
    for index, result in enumerate(_in_order(work, paths, workers)):
        if isinstance(result, str):
            bad.append((paths[index], result))
        else:
            images[len(kept)] = result
            kept.append(index)
        if progress:
            progress(index + 1, len(paths))
    refuse_many_bad(bad, len(paths), max_bad)
    return ReadImages(images[: len(kept)], kept, bad)


def refuse_many_bad(bad: Sequence[BadImage], total: int, max_bad: float = MAX_BAD) -> None:
    """Raise DataError, naming up to three, if more than a share ``max_bad`` of ``total`` images, or all, are bad."""
    if bad and (len(bad) / total > max_bad or len(bad) == total):
        named = "; ".join(f"{path}: {reason}" for path, reason in bad[:3])
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise DataError(
            f"{len(bad)} of {total} images cannot be read (up to {max_bad:.0%} are tolerated): {named}{more}. "
            "Remove or replace them."
        )


@dataclass(frozen=True)
class FolderReport:
    """What is in a folder of images.

    Attributes:
        total: image files found.
        bad: those that cannot be read.
        smallest: width and height of the readable image with the fewest pixels; None if there is none.
        largest: likewise with the most.
        classes: images a class folder, sorted by name; empty if the images lie in no sub-folders.
        duplicates: groups of files with the same bytes.
        leaks: pairs of a file and one with the same bytes in the other folder.
    """

    total: int
    bad: tuple[BadImage, ...]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    classes: dict[str, int]
    duplicates: tuple[tuple[Path, ...], ...]
    leaks: tuple[tuple[Path, Path], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "images": self.total,
            "bad": [{"path": str(path), "reason": reason} for path, reason in self.bad],
            "smallest": list(self.smallest) if self.smallest else None,
            "largest": list(self.largest) if self.largest else None,
            "classes": self.classes,
            "duplicates": [[str(path) for path in group] for group in self.duplicates],
            "leaks": [[str(here), str(there)] for here, there in self.leaks],
        }


def check_folder(
    folder: str | Path,
    against: str | Path | None = None,
    *,
    progress: Progress | None = None,
    workers: int = 2,
) -> FolderReport:
    """Decode every image below ``folder`` and report what a training run would stumble over; bad images never raise.

    Args:
        against: another folder, the test images say, that should share no file with ``folder``.

    Raises:
        DataError: one of the folders is missing or holds no image.
    """
    root = Path(folder)
    paths = find_images(root)
    others = find_images(against) if against is not None else []

    def work(path: Path) -> tuple[str, tuple[int, int] | str]:
        try:
            data = path.read_bytes()
        except OSError as error:
            return "", f"cannot be read ({error.strerror})."
        digest = sha256(data).hexdigest()
        try:
            height, width = decode(data).shape[:2]
        except DataError as error:
            return digest, _reason(error, Path("image"))
        return digest, (width, height)

    bad: list[BadImage] = []
    sizes: list[tuple[int, int]] = []
    classes: dict[str, int] = defaultdict(int)
    same: dict[str, list[Path]] = defaultdict(list)
    for done, (digest, result) in enumerate(_in_order(work, paths, workers), 1):
        path = paths[done - 1]
        if isinstance(result, str):
            bad.append((path, result))
        else:
            sizes.append(result)
        if digest:
            same[digest].append(path)
        below = path.relative_to(root).parts
        if len(below) > 1:
            classes[below[0]] += 1
        if progress:
            progress(done, len(paths) + len(others))
    leaks: list[tuple[Path, Path]] = []
    for done, (path, digest) in enumerate(zip(others, _in_order(_digest, others, workers), strict=True), 1):
        leaks += [(here, path) for here in same.get(digest, ())]
        if progress:
            progress(len(paths) + done, len(paths) + len(others))
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    return FolderReport(
        total=len(paths),
        bad=tuple(bad),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        classes=dict(sorted(classes.items())),
        duplicates=tuple(tuple(group) for group in same.values() if len(group) > 1),
        leaks=tuple(leaks),
    )


def _in_order(work: Any, items: Sequence[Path], workers: int) -> Iterator[Any]:
    """``map(work, items)`` in threads, looking no more than a window ahead."""
    left = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        while window := list(islice(left, WINDOW)):
            yield from pool.map(work, window)


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def _reason(error: DataError, path: Path) -> str:
    """The message without the path in front of it."""
    return str(error).removeprefix(f"{path}: ").rstrip(".")
