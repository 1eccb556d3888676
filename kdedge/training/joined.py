"""Arrays that stand one after another and are read where they are asked for, without being copied together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Joined", "Picked", "RowArray", "as_rows"]


class RowArray(Protocol):
    """What is read by rows: a NumPy array, one mapped into memory, images in tar shards."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


def as_rows(rows: Any, count: int) -> tuple[NDArray[np.int64], bool]:
    """A row's number, numbers, a slice or a mask as numbers (B,), and whether it was a single number.

    Raises:
        IndexError: a number is out of range, a mask has another length, or it is none of these.
    """
    if isinstance(rows, slice):
        rows = np.arange(count)[rows]
    chosen = np.asarray(rows)
    single = chosen.ndim == 0
    mask = chosen.dtype == bool
    if chosen.ndim > 1 or (mask and chosen.shape != (count,)) or (chosen.dtype.kind not in "biu" and chosen.size):
        raise IndexError(f"{chosen.dtype} of shape {chosen.shape} for {count} rows; give numbers, a slice or a mask")
    flat = np.flatnonzero(chosen) if mask else np.atleast_1d(chosen).astype(np.int64)
    flat = np.where(flat < 0, flat + count, flat)
    if flat.size and not (flat.min() >= 0 and flat.max() < count):
        raise IndexError(f"row {rows} of {count}")
    return flat, single


@dataclass(frozen=True)
class Joined:
    """Arrays joined along their first axis; the others agree."""

    parts: Sequence[RowArray]
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [len(part) for part in self.parts]
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)"""
        return (len(self), *self.parts[0].shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        flat, single = as_rows(rows, len(self))
        owner = np.searchsorted(self._starts, flat, "right") - 1
        pieces: dict[int, NDArray[Any]] = {
            part: np.asarray(self.parts[part][flat[owner == part] - self._starts[part]])
            for part in np.unique(owner).tolist()
        }
        if not pieces:
            return np.asarray(self.parts[0][:0])
        first = next(iter(pieces.values()))
        found = np.empty((len(flat), *first.shape[1:]), first.dtype)
        for part, values in pieces.items():
            found[owner == part] = values
        return found[0] if single else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)


@dataclass(frozen=True)
class Picked:
    """Chosen rows of an array, not copied."""

    array: RowArray
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)"""
        return (len(self), *self.array.shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        flat, single = as_rows(rows, len(self))
        found: NDArray[Any] = np.asarray(self.array[self.rows[flat]])
        return found[0] if single else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)
