"""The view cache: the teacher sees every view of every image once; afterwards its activations are replayed.

A cache is a folder of two arrays, named by a key over everything its contents depend on, so a change of teacher,
preprocessing, images or augmentation makes another folder. It is complete when ``index.json`` is there.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.files import cache_dir, write_json
from kdedge.preprocess import Preprocess, resize
from kdedge.progress import Progress
from kdedge.training.augment import Augment, make_view, one_thread
from kdedge.training.teachers import Teacher

__all__ = ["ViewBank", "build_bank", "fit_to"]

BATCH = 16
FORMAT = 1


@dataclass(frozen=True)
class ViewBank:
    """Views and what the teacher makes of them.

    Attributes:
        views: uint8, (M, S, S, 3), RGB; memory-mapped.
        activations: float32, (M, D); memory-mapped.
        image: int64, (M,): which image each view shows.
        reused: whether it was found complete on disk.
    """

    views: NDArray[np.uint8]
    activations: NDArray[np.float32]
    image: NDArray[np.int64]
    reused: bool = False

    def __len__(self) -> int:
        return len(self.views)


def fit_to(images: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Scale square images (B, S, S, 3) to the size a network wants, if it is another one."""
    if images.shape[1] == preprocess.size:
        return images
    return np.stack([resize(image, preprocess.size, preprocess.resize) for image in images])


def build_bank(
    images: NDArray[np.uint8],
    views: Sequence[int],
    teacher: Teacher,
    augment: Augment,
    seed: int,
    progress: Progress | None = None,
) -> ViewBank:
    """Make, or find on disk, ``views[i]`` views of each image and the teacher's activations.

    Args:
        images: uint8, (N, S, S, 3), RGB.
        views: how many views of each image, at least 1 (view 0 is the image itself).
        progress: told (views done, views in all).
    """
    total = int(sum(views))
    number = np.repeat(np.arange(len(images)), views)
    home = cache_dir("activations") / _key(images, views, teacher, augment, seed)
    if (home / "index.json").is_file():
        return ViewBank(*_open(home), number, reused=True)
    scratch = Path(tempfile.mkdtemp(prefix=".part-", dir=home.parent))
    try:
        shape = (total, *images.shape[1:])
        pixels = np.lib.format.open_memmap(scratch / "views.npy", "w+", np.uint8, shape)
        activations = np.lib.format.open_memmap(scratch / "activations.npy", "w+", np.float32, (total, teacher.dim))
        transform = augment.transform()
        view = np.concatenate([np.arange(count) for count in views])
        for start in range(0, total, BATCH):
            rows = range(start, min(start + BATCH, total))
            with one_thread():
                for row in rows:
                    pixels[row] = make_view(images[number[row]], transform, int(number[row]), int(view[row]), seed)
            activations[start : rows.stop] = teacher.embed(fit_to(pixels[start : rows.stop], teacher.preprocess))
            if progress:
                progress(rows.stop, total)
        pixels.flush()
        activations.flush()
        del pixels, activations
        index_ = {"format": FORMAT, "views": total, "images": len(images), "teacher": teacher.name, "seed": seed}
        write_json(scratch / "index.json", index_)
        if home.exists():
            shutil.rmtree(home)
        scratch.replace(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ViewBank(*_open(home), number)


def _open(home: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return np.load(home / "views.npy", mmap_mode="r"), np.load(home / "activations.npy", mmap_mode="r")


def _key(images: NDArray[np.uint8], views: Sequence[int], teacher: Teacher, augment: Augment, seed: int) -> str:
    what = {
        "format": FORMAT,
        "images": sha256(np.ascontiguousarray(images).data).hexdigest(),
        "shape": list(images.shape),
        "views": sha256(np.asarray(views, np.int64).tobytes()).hexdigest(),
        "teacher": teacher.fingerprint(),
        "augment": repr(augment),
        "seed": seed,
        "versions": _versions(),
    }
    return sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _versions() -> str:
    import torchvision

    return str(torchvision.__version__)  # a view is re-created by torchvision's transforms
