"""Where galleries lie, and changing one while other processes change it, too."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdedge.errors import ModelError
from kdedge.files import sha256_of
from kdedge.runtime.gallery import Gallery

__all__ = ["VARIABLE", "change_gallery", "find_gallery", "gallery_path"]

VARIABLE = "KDEDGE_GALLERY"


def gallery_path(model: str, given: str | Path | None = None) -> Path:
    """The file of a model's gallery, which need not exist: the one given, else ``$KDEDGE_GALLERY``, else one by its hash.

    Args:
        model: SHA-256 of the model file.
    """
    if named := given or os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return _home() / f"{model[:12]}.json"


def _home() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "kdedge" / "galleries"


def find_gallery(model: str | Path, given: str | Path | None = None) -> tuple[Gallery, Path] | None:
    """The gallery of a model file, with its path; None if nothing was ever enrolled.

    The model is hashed only if there is a gallery that may be its own.

    Raises:
        ModelError: the one ``given`` is missing, or one is damaged or of another model.
    """
    named = given or os.environ.get(VARIABLE)
    if not named and not any(_home().glob("*.json")):
        return None
    digest = sha256_of(model)
    path = gallery_path(digest, given)
    if not path.is_file():
        if given:
            raise ModelError(f"{path}: no such gallery; 'kdedge enroll NAME IMAGES --gallery {path}' makes one.")
        return None
    found = Gallery.read(path)
    found.check(digest, path)
    return found, path


def change_gallery(path: Path, change: Callable[[Gallery | None], Gallery]) -> Gallery:
    """Read, change and write a gallery; other processes that want to change it wait meanwhile, so none loses its work.

    Args:
        change: gets what is there, None if there is nothing, and returns what is to be there.

    Raises:
        ModelError: the folder cannot be written; and what reading and ``change`` raise, which leaves the file as it was.
    """
    with _locked(path):
        made = change(Gallery.read(path) if path.exists() else None)
        made.write(path)
    return made


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that belongs to ``path``: a file beside it that stays, since the gallery itself is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a+b")
    except OSError as error:
        raise ModelError(f"{path}: the gallery cannot be written ({error.strerror or error}).") from error
    with lock:
        if sys.platform == "win32":
            import msvcrt

            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
            try:
                yield
            finally:
                lock.seek(0)
                msvcrt.locking(lock.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, also by a process that dies
            yield
