"""The view cache: the teacher sees every view of every image once; afterwards its activations are replayed.

A view is an image, a number and a seed: it is made again, bit for bit, wherever it is needed, so student and teacher see the
same pixels although only activations are kept. They lie in a folder named by a key over everything they depend on (teacher,
its preprocessing, pixels, augmentation, seed): whatever changes one of these makes another folder.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdedge.files import cache_dir, write_json
from kdedge.preprocess import Preprocess, resize
from kdedge.progress import Progress
from kdedge.training.activation_shards import ActivationShards, shard_is_whole, write_activations
from kdedge.training.augment import Augment
from kdedge.training.engine import Engine
from kdedge.training.joined import RowArray, as_rows
from kdedge.training.make_views import make_views
from kdedge.training.teachers import Teacher

__all__ = ["SHARD_ROWS", "ViewBank", "Views", "build_bank", "embed_views", "fit_to", "settings_key"]

FORMAT = 3
SHARD_ROWS = 1024
"""Rows of a shard: what a killed pass computes again, at most."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Resident:
    """Images (N, S, S, 3), uint8, in the memory of a device."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)"""
        return tuple(self.pixels.shape)

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Images by their rows, on the host."""
        found: NDArray[np.uint8] = self.pixels[rows].cpu().numpy()
        return found


@dataclass(frozen=True)
class Views:
    """Views (M, S, S, 3) of images, made where they are asked for.

    Attributes:
        images: uint8, (N, S, S, 3), RGB.
        number, view: int64, (M,): row m is view ``view[m]`` of image ``number[m]``; view 0 is the image itself.
        ids: int64, (N,): what the random numbers of an image's views depend on.
    """

    images: RowArray
    number: NDArray[np.int64]
    view: NDArray[np.int64]
    ids: NDArray[np.int64]
    augment: Augment
    seed: int

    def __len__(self) -> int:
        return len(self.number)

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, S, S, 3)"""
        return (len(self), *self.images.shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """A view (S, S, 3), or views (B, S, S, 3) by a slice, by numbers or by a mask."""
        flat, single = as_rows(rows, len(self))
        found = self.tensor(flat, torch.device("cpu")).permute(0, 2, 3, 1).contiguous().numpy()
        return found[0] if single else found

    def fresh(self, epoch: int) -> "Views":
        """As many views of the same images, other ones in every epoch, none of them an image itself."""
        return replace(self, view=self.view + 1 + (epoch + 1) * (int(self.view.max()) + 1))

    def resident(self, device: torch.device, most: float) -> "Views":
        """The same views of images that lie in the memory of ``device``, if they take at most ``most`` bytes there."""
        if np.prod(self.images.shape) > most:
            return self
        parts = [self.images[start : start + 1024] for start in range(0, len(self.images), 1024)]
        return replace(self, images=Resident(torch.cat([torch.from_numpy(part).to(device) for part in parts])))

    def tensor(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Views by their rows (B,) as uint8, (B, 3, S, S), made on ``device``."""
        number = self.number[rows]
        if isinstance(self.images, Resident):
            pixels = self.images.pixels.index_select(0, torch.from_numpy(number).to(self.images.pixels.device))
        else:
            pixels = torch.from_numpy(np.ascontiguousarray(self.images[number]))
            if device.type == "cuda":
                pixels = pixels.pin_memory()
        pixels = pixels.to(device, non_blocking=True)
        return make_views(pixels.permute(0, 3, 1, 2), self.ids[number], self.view[rows], self.augment, self.seed)


@dataclass(frozen=True)
class ViewBank:
    """Views and what the teacher makes of them.

    Attributes:
        views: uint8, (M, S, S, 3), RGB.
        activations: float32, (M, D).
        image: int64, (M,): which image each view shows.
        reused: whether all activations were found on disk.
        blocks: rows that are cheap to read together (those of a tar shard), in all each row once; None where any rows are.
    """

    views: RowArray
    activations: RowArray
    image: NDArray[np.int64]
    reused: bool = False
    blocks: list[NDArray[np.int64]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.views)


def fit_to(images: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Scale square images (B, S, S, 3) to the size a network wants, if it is another one."""
    if images.shape[1] == preprocess.size:
        return images
    return np.stack([resize(image, preprocess.size, preprocess.resize) for image in images])


def build_bank(
    images: RowArray,
    views: Sequence[int],
    teacher: Teacher,
    augment: Augment,
    seed: int,
    progress: Progress | None = None,
    *,
    engine: Engine | None = None,
    say: Say = lambda _: None,
) -> ViewBank:
    """Compute, or find on disk, the teacher's activations of ``views[i]`` views of each image.

    Killed, it goes on where it was; damaged shards are computed again, and ``say`` is told. With several processes each
    computes its share; all must see the same cache folder.

    Args:
        images: uint8, (N, S, S, 3), RGB.
        views: how many views of each image, at least 1 (view 0 is the image itself).
        progress: told (views done, views in all).

    Raises:
        DataError: activations that are not finite.
    """
    engine = engine or Engine.choose()
    number = np.repeat(np.arange(len(images)), views)
    view = np.concatenate([np.arange(count) for count in views])
    made = Views(images, number, view, np.arange(len(images)), augment, seed)
    key = settings_key(
        teacher, augment, seed, images=_digest(images), views=sha256(np.asarray(views, np.int64).tobytes()).hexdigest()
    )
    home = cache_dir("activations") / key
    home.mkdir(exist_ok=True)
    rows = [min(SHARD_ROWS, len(made) - start) for start in range(0, len(made), SHARD_ROWS)]
    paths = [home / f"{index:05d}.npy" for index in range(len(rows))]
    missing = [i for i, path in enumerate(paths) if not shard_is_whole(path, rows[i], teacher.dim)]
    engine.wait()  # nobody writes before everybody has looked: all take their share of the same list
    if spoiled := [paths[index].name for index in missing if paths[index].with_suffix(".json").exists()]:
        say(f"cached activations: {len(spoiled)} damaged shard(s), computed again ({', '.join(spoiled[:3])})")
    advance = _Advance(progress, len(made), sum(rows) - sum(rows[index] for index in missing), engine.world)
    for index in missing[engine.rank :: engine.world]:
        start = index * SHARD_ROWS
        numbers = np.arange(start, start + rows[index])
        write_activations(paths[index], embed_views(teacher, made, numbers, advance))
        advance.done += rows[index] * engine.world
    if engine.main and missing:
        write_json(home / "index.json", {"format": FORMAT, "teacher": teacher.name, "rows": len(made), "seed": seed})
    engine.wait()
    if missing and progress:
        progress(len(made), len(made))
    activations = ActivationShards(tuple(paths), tuple(rows), teacher.dim)
    return ViewBank(made, activations, number, reused=not missing)


@dataclass
class _Advance:
    """Progress of all processes, as this one sees it."""

    progress: Progress | None
    total: int
    done: int
    world: int

    def __call__(self, seen: int, _: int, _note: str = "", /) -> None:
        if self.progress:
            self.progress(min(self.done + seen * self.world, self.total), self.total)


def embed_views(
    teacher: Teacher, views: Views, rows: NDArray[np.int64], progress: Progress | None = None
) -> NDArray[np.float32]:
    """The teacher's activations (B, D) of rows of ``views``."""
    size = 128 if torch.cuda.is_available() else 16
    found = np.empty((len(rows), teacher.dim), np.float32)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        found[start : start + len(part)] = teacher.embed(fit_to(views[part], teacher.preprocess))
        if progress:
            progress(start + len(part), len(rows))
    return found


def settings_key(teacher: Teacher, augment: Augment, seed: int, **more: str) -> str:
    """The name of a cache folder: a digest of whatever activations depend on, and of ``more``."""
    what = {
        "format": FORMAT,
        "teacher": teacher.fingerprint(),
        "augment": repr(augment),
        "seed": seed,
        "device": "cuda" if torch.cuda.is_available() else "cpu",  # a GPU's views differ in the last bit
        "versions": [version("torch")],  # a view is made by torch
        **more,
    }
    return sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _digest(images: RowArray) -> str:
    digest = sha256(repr(images.shape).encode())
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()
