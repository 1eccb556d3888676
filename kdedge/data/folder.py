"""Folders of images: unlabelled ones of any nesting, and labelled ones with a folder per class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdedge.errors import DataError

__all__ = ["SUFFIXES", "LabelledImages", "class_folders", "find_images"]

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def find_images(folder: str | Path) -> list[Path]:
    """All image files below ``folder`` (any nesting, hidden files left out), in a fixed order.

    Raises:
        DataError: the folder is missing, is a file, or holds no image.
    """
    root = Path(folder)
    if not root.exists():
        raise DataError(f"{root}: no such folder.")
    if not root.is_dir():
        raise DataError(f"{root}: a folder of images was expected, this is a file.")
    paths = sorted(_walk(root))
    if not paths:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{root}: no images found ({kinds} are looked for, at any depth).")
    return paths


def _walk(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@dataclass(frozen=True)
class LabelledImages:
    """Images with class numbers; ``classes[labels[i]]`` is the class name of ``paths[i]``."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def counts(self) -> list[int]:
        """Images a class, in the order of ``classes``."""
        found = [0] * len(self.classes)
        for label in self.labels:
            found[label] += 1
        return found


def class_folders(folder: str | Path, classes: Sequence[str] | None = None, least: int = 1) -> LabelledImages:
    """Read ``folder/CLASS/**/image``.

    Args:
        folder: one sub-folder a class; its name is the class name.
        classes: the class names to expect, in order (those of the training set); None takes them as found, sorted.
        least: how many images each class must have.

    Raises:
        DataError: missing or empty folder, fewer than two classes, a class with fewer than ``least`` images,
            or classes other than the expected ones.
    """
    root = Path(folder)
    find_images(root)
    found = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not found:
        raise DataError(f"{root}: images were found but no class folders; expected {root}/CLASS/image.jpg.")
    if classes is None:
        if len(found) < 2:
            raise DataError(f"{root}: only one class ({found[0]}); a classifier needs at least two class folders.")
        classes = found
    elif unknown := sorted(set(found) - set(classes)):
        raise DataError(
            f"{root}: class {unknown[0]!r} is not among the {len(classes)} known classes ({_some(classes)})."
        )
    paths: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        below = sorted(_walk(root / name)) if name in found else []
        if len(below) < least and (name in found or least > 1):
            raise DataError(f"{root / name}: the class has {len(below)} image(s); at least {least} are needed.")
        paths += below
        labels += [number] * len(below)
    return LabelledImages(tuple(paths), tuple(labels), tuple(classes))
