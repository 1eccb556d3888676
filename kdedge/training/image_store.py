"""Images decoded once: small sets into memory, large ones into a file of uint8 pixels that later runs map again."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from kdedge.data.check import ReadImages, read_images
from kdedge.files import cache_dir, write_json
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.engine import Engine

__all__ = ["IN_MEMORY", "decoded"]

IN_MEMORY = 256 << 20
"""Bytes of decoded images that are simply kept in memory."""

FORMAT = 1


def decoded(
    paths: Sequence[Path], fit: Preprocess, progress: Progress | None = None, engine: Engine | None = None
) -> ReadImages:
    """As :func:`kdedge.data.check.read_images`, from the store where that knows the very same files.

    A file counts as the same if its path, size and time of change are. With several processes the main one decodes; all must
    see the same cache folder.
    """
    if len(paths) * fit.size**2 * 3 <= IN_MEMORY:
        return read_images(paths, fit, progress=progress)
    engine = engine or Engine.choose()
    home = cache_dir("images") / _key(paths, fit)
    if engine.main and not (home / "index.json").is_file():
        _fill(home, paths, fit, progress)
    engine.wait()
    index = json.loads((home / "index.json").read_text(encoding="utf-8"))
    pixels = np.load(home / "pixels.npy", mmap_mode="r")
    bad = [(Path(path), reason) for path, reason in index["bad"]]
    return ReadImages(pixels[: len(index["kept"])], index["kept"], bad)


def _fill(home: Path, paths: Sequence[Path], fit: Preprocess, progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory(prefix=".part-", dir=home.parent) as scratch:
        made = Path(scratch) / "made"  # the folder around it is for this user alone
        made.mkdir()
        read = read_images(paths, fit, into=made / "pixels.npy", progress=progress)
        if isinstance(read.images.base, np.memmap):
            read.images.base.flush()
        write_json(made / "index.json", {"kept": read.kept, "bad": [[str(path), why] for path, why in read.bad]})
        if home.exists():
            shutil.rmtree(home)
        made.replace(home)


def _key(paths: Sequence[Path], fit: Preprocess) -> str:
    digest = sha256(f"{FORMAT} {fit.size} {fit.resize}".encode())
    for path in paths:
        about = path.stat()
        digest.update(f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]
