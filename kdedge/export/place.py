"""Where the files of an export go, and how they get there: all of them or none."""

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kdedge.errors import ExportError, RunError
from kdedge.files import atomic_path
from kdedge.runtime.models import export_name

__all__ = ["Files", "place", "refuse_existing"]

_PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Files:
    """The names an export gives.

    Attributes:
        fp32, fp16, int8: by precision.
    """

    fp32: Path
    fp16: Path
    int8: Path

    @classmethod
    def of_run(cls, folder: Path, target: str) -> "Files":
        """``student.onnx``, ``student.fp16.onnx``, ``student.int8.onnx`` in ``folder``; ``student.TARGET....`` unless x86."""
        return cls(*(folder / export_name(target, kind) for kind in _PRECISIONS))

    @classmethod
    def named(cls, out: Path, int8: bool, float16: bool) -> "Files":
        """``out`` is the file to deploy (int8, else float16, else fp32); the others lie beside it, as NAME.PRECISION.onnx.

        Raises:
            ExportError: ``out`` is no name of an ONNX file.
        """
        if out.suffix.lower() != ".onnx":
            raise ExportError(f"--out {out}: the file's name must end in .onnx.")
        if out.is_dir():
            raise ExportError(f"--out {out}: this is a directory; give the name of a file.")
        stem = out.stem
        for kind in _PRECISIONS:
            stem = stem.removesuffix(f".{kind}")
        beside = {kind: out.with_name(f"{stem}.{kind}.onnx") for kind in _PRECISIONS}
        beside["int8" if int8 else "fp16" if float16 else "fp32"] = out
        return cls(**beside)


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse files that cannot be written.

    Raises:
        RunError: a file exists and may not be replaced.
        ExportError: the folder cannot be written, or is a file.
    """
    for path in paths:
        there = next(folder for folder in path.absolute().parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ExportError(f"{path}: {there} is no folder that can be written; choose another place with --out.")
        if path.exists() and not overwrite:
            raise RunError(f"{path} exists already; give --overwrite to replace it.")


def place(files: Sequence[tuple[Path, Path]], stale: Iterable[Path] = ()) -> None:
    """Copy each (source, destination): every copy is whole before the first takes its name.

    Args:
        stale: files of an earlier export; those that are no destination now are removed.

    Raises:
        ExportError: the disk is full, or a folder cannot be written.
    """
    try:
        with ExitStack() as stack:
            for source, path in files:
                shutil.copyfile(source, stack.enter_context(atomic_path(path)))
        for path in {*stale} - {path for _, path in files}:
            path.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"{error.strerror or error}"
        where = files[0][1].parent
        raise ExportError(f"{where}: {what}; nothing was written{', make room first' if full else ''}.") from error
