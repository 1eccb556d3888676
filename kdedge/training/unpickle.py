"""Pickles of arrays and nothing else: the format in which the VGGFace2 networks were published."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ModelError

__all__ = ["read_array_pickle"]

# What numpy writes to rebuild an array, under the names of its versions 1 and 2, and how Python 2's bytes come along.
ADMITTED = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
    }
)


class _Refused(Exception):
    """The pickle asks for something that is not an array."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise _Refused(f"{module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"a persistent object {pid!r}")


def read_array_pickle(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a pickle of ``{name: numeric array}``; nothing in it is ever run.

    Raises:
        ModelError: missing, no pickle, or holding anything but arrays of numbers under names.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            found = _ArraysOnly(stream, encoding="latin1").load()
    except _Refused as error:
        raise ModelError(f"{file}: the pickle asks for {error}; arrays are admitted and nothing else.") from error
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise ModelError(f"{file}: not a pickle that can be read ({type(error).__name__}).") from error
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{file}: a dictionary of arrays was expected, found {type(found).__name__}.")
    for name, value in found.items():
        numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
        if not isinstance(name, str) or not numeric:
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ModelError(f"{file}: {name!r} is {kind}; an array of numbers was expected.")
    return found
