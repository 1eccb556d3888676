"""A split as a file: path, label, class_name and split of every image (the paper's fixed split, S1)."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kdedge.data.folder import LabelledImages
from kdedge.errors import DataError

__all__ = ["COLUMNS", "SPLITS", "Manifest", "read_manifest", "refuse_equal_files"]

COLUMNS = ("path", "label", "class_name", "split")
SPLITS = ("train", "val", "test")
SHOWN = 3


@dataclass(frozen=True)
class Manifest:
    """The parts of a split, all with the same classes; ``val`` and ``test`` are None where the file has none."""

    train: LabelledImages
    val: LabelledImages | None
    test: LabelledImages | None


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: int
    class_name: str
    split: str


def read_manifest(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Read a CSV file with the columns path, label, class_name, split (``train``, ``val`` or ``test``).

    Args:
        root: what relative paths are below; the folder of the file if None.

    Raises:
        DataError: not such a file, an unknown split, a label outside the class list or with two names, the same path twice,
            missing images, or the same bytes in two parts (with the pairs).
    """
    path = Path(path)
    rows = _rows(path, Path(root) if root is not None else path.parent)
    classes = _classes(path, rows)
    missing = [row for row in rows if not row.path.is_file()]
    if missing:
        names = ", ".join(f"{row.path} (line {row.line})" for row in missing[:SHOWN])
        raise DataError(f"{path}: {len(missing)} of {len(rows)} images are missing: {names}{_more(len(missing))}.")
    parts = {split: _part([row for row in rows if row.split == split], classes) for split in SPLITS}
    train = parts["train"]
    if train is None:
        raise DataError(f"{path}: no image is in the split 'train'.")
    refuse_equal_files({split: part.paths for split, part in parts.items() if part}, str(path))
    return Manifest(train, parts["val"], parts["test"])


def refuse_equal_files(parts: Mapping[str, Sequence[Path]], where: str) -> None:
    """Refuse the same bytes in two parts; only files of equal size are read.

    Raises:
        DataError: names the pairs.
    """
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in parts.items():
        for path in paths:
            by_size[path.stat().st_size].append((split, path))
    pairs: list[tuple[str, Path, str, Path]] = []
    for group in by_size.values():
        if len({split for split, _ in group}) < 2:
            continue
        first: dict[bytes, tuple[str, Path]] = {}
        for split, path in group:
            known = first.setdefault(sha256(path.read_bytes()).digest(), (split, path))
            if known[0] != split:
                pairs.append((*known, split, path))
    if pairs:
        named = "; ".join(f"{a} ({here}) = {b} ({there})" for here, a, there, b in pairs[:SHOWN])
        raise DataError(
            f"{where}: {len(pairs)} image(s) stand in two parts of the split, so a score would say nothing: "
            f"{named}{_more(len(pairs))}."
        )


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""


def _rows(path: Path, root: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"{path}: cannot be read as a manifest ({reason}).") from error
    reader = csv.DictReader(text.splitlines())
    if absent := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise DataError(f"{path}: the column {absent[0]!r} is missing; a manifest has {', '.join(COLUMNS)}.")
    rows: list[_Row] = []
    lines: dict[Path, int] = {}
    for values in reader:
        line = reader.line_num
        name, label, class_name, split = ((values[column] or "").strip() for column in COLUMNS)
        if split not in SPLITS:
            raise DataError(f"{path}, line {line}: unknown split {split!r}; expected train, val or test.")
        if not label.isdecimal():
            raise DataError(f"{path}, line {line}: the label is {label!r}; a class number from 0 upwards was expected.")
        if not name or not class_name:
            raise DataError(f"{path}, line {line}: a path and a class name are needed.")
        file = root / name
        if file in lines:
            raise DataError(f"{path}, line {line}: {name} stands in line {lines[file]} already.")
        lines[file] = line
        rows.append(_Row(line, file, int(label), class_name, split))
    if not rows:
        raise DataError(f"{path}: holds no images.")
    return rows


def _classes(path: Path, rows: Sequence[_Row]) -> tuple[str, ...]:
    """Class names by label; every label from 0 on has one name, and every name one label."""
    names: dict[int, _Row] = {}
    labels: dict[str, _Row] = {}
    for row in rows:
        known = names.setdefault(row.label, row)
        if known.class_name != row.class_name:
            raise DataError(
                f"{path}, line {row.line}: label {row.label} is {row.class_name!r} here and {known.class_name!r} in line "
                f"{known.line}."
            )
        known = labels.setdefault(row.class_name, row)
        if known.label != row.label:
            raise DataError(
                f"{path}, line {row.line}: {row.class_name!r} has label {row.label} here and {known.label} in line "
                f"{known.line}."
            )
    outside = [row for row in rows if row.label >= len(names)]
    if outside:
        row = outside[0]
        raise DataError(
            f"{path}, line {row.line}: label {row.label} lies outside the class list; {len(names)} classes have labels 0 to "
            f"{len(names) - 1}."
        )
    if len(names) < 2:
        raise DataError(f"{path}: only one class ({rows[0].class_name}); a classifier needs at least two.")
    return tuple(names[label].class_name for label in range(len(names)))


def _part(rows: Sequence[_Row], classes: tuple[str, ...]) -> LabelledImages | None:
    if not rows:
        return None
    return LabelledImages(tuple(row.path for row in rows), tuple(row.label for row in rows), classes)
