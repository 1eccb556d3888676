"""Activations on disk: float16 files of a fixed number of rows, each with a checksum, written whole or not at all.

A folder of shards belongs to one key (teacher, preprocessing, augmentation, images). Every shard stands alone: ``00012.npy``
holds ``(activation - offset) / scale`` in float16, ``00012.json`` the offset and scale of each dimension, the number of rows
and a checksum of all of it. So a pass that was killed goes on at the first missing shard, several processes can fill one
folder, and a shard that was damaged is found and computed again.

Float16 keeps 11 bits. Offset and scale are those of the shard's own rows, so the error is at most about 2**-11 of a dimension's
range, however far from zero or however small its values are.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.files import atomic_path, sha256_of, write_json
from kdedge.training.joined import as_rows

__all__ = ["ActivationShards", "shard_is_whole", "write_activations"]

OPEN = 256
"""Shards that are mapped into memory at once; a process may not hold any number of files."""


def write_activations(path: Path, activations: NDArray[np.floating]) -> None:
    """Write rows (R, D) as ``path`` (.npy) and, last, the JSON beside it.

    Raises:
        DataError: an activation is not finite.
    """
    values = np.asarray(activations, np.float64)
    if not np.isfinite(values).all():
        raise DataError("the teacher's activations are not finite; is its preprocessing right?")
    low, high = values.min(0), values.max(0)
    offset = ((low + high) / 2).astype(np.float32)
    span = ((high - low) / 2).astype(np.float32)
    scale = np.where(span > 0, span, np.float32(1.0)).astype(np.float32)
    half = ((values - offset) / scale).astype(np.float16)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, half)
    about = {"rows": len(half), "offset": offset.tolist(), "scale": scale.tolist()}
    write_json(path.with_suffix(".json"), {**about, "sha256": _checksum(path, about)})


def shard_is_whole(path: Path, rows: int, dim: int) -> bool:
    """Whether a shard is there with ``rows`` rows of ``dim`` numbers, all of them as they were written."""
    about = _about(path)
    if about is None or about["rows"] != rows or len(about["offset"]) != dim or len(about["scale"]) != dim:
        return False
    return path.is_file() and about["sha256"] == _checksum(path, about)


@dataclass(frozen=True)
class ActivationShards:
    """Rows (M, D) of a list of shards, read as float32 where they are asked for.

    Attributes:
        paths: the shards in the order of their rows; ``rows``: how many each holds.
    """

    paths: tuple[Path, ...]
    rows: tuple[int, ...]
    dim: int
    _starts: NDArray[np.int64] = field(init=False, repr=False)
    _open: "OrderedDict[int, _Shard]" = field(init=False, repr=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """(M, D)."""
        return len(self), self.dim

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """A row (D,), or rows (B, D) by a slice, by numbers or by a mask."""
        flat, single = as_rows(rows, len(self))
        found = np.empty((len(flat), self.dim), np.float32)
        shard = np.searchsorted(self._starts, flat, "right") - 1
        for number in np.unique(shard).tolist():
            here = np.flatnonzero(shard == number)
            found[here] = self._shard(number).read(flat[here] - self._starts[number])
        return found[0] if single else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _shard(self, number: int) -> "_Shard":
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path = self.paths[number]
        about = _about(path)
        if about is None or not path.is_file():
            raise DataError(f"{path}: a shard of cached activations is gone; run the command again.")
        half = np.load(path, mmap_mode="r")
        opened = _Shard(half, np.asarray(about["offset"], np.float32), np.asarray(about["scale"], np.float32))
        self._open[number] = opened
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return opened


@dataclass(frozen=True)
class _Shard:
    half: NDArray[np.float16]
    offset: NDArray[np.float32]
    scale: NDArray[np.float32]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.half[rows].astype(np.float32) * self.scale + self.offset
        return values


def _about(path: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or not {"rows", "offset", "scale", "sha256"} <= set(about):
        return None
    return about if isinstance(about["offset"], list) and isinstance(about["scale"], list) else None


def _checksum(path: Path, about: dict[str, Any]) -> str:
    """Of the array's bytes and of what they are read with: a wrong offset is as bad as a wrong number."""
    read_with = json.dumps([about["rows"], about["offset"], about["scale"]])
    return sha256(f"{sha256_of(path)} {read_with}".encode()).hexdigest()
