"""Transfer sets in tar shards: the teacher sees them shard by shard, each process its own, and any number of times after.

Nothing is held of a set as a whole but a few numbers an image. A tar shard has a shard of cached activations with the same
number, whose name follows from the tar file's, size and time of change, so a set may grow and what is known stays known.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.data.check import MAX_BAD
from kdedge.data.shard_decode import decode_shard, image_id
from kdedge.data.shard_list import expand_shards, shard_fingerprint, shard_labels, split_shards
from kdedge.errors import DataError
from kdedge.files import atomic_path, cache_dir, write_json
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.activation_shards import ActivationShards, shard_is_whole, write_activations
from kdedge.training.activations import Views, embed_views, settings_key
from kdedge.training.augment import Augment
from kdedge.training.engine import Engine
from kdedge.training.sharded_images import Shard, ShardedImages
from kdedge.training.teachers import Teacher

__all__ = ["Streamed", "held_out", "image_ids", "read_stream"]

KEEP_DECODED = 32 << 30
"""Bytes of decoded images that are kept on disk, at most, unless the user says otherwise."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Streamed:
    """The shards of this process, and the teacher's activations of ``views`` views of each image, an image's together."""

    images: ShardedImages
    activations: ActivationShards
    views: int

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,)"""
        return np.concatenate([shard.ids for shard in self.images.shards])

    def blocks(self) -> list[NDArray[np.int64]]:
        """Rows of the activations by shard."""
        ends = np.cumsum([len(shard) * self.views for shard in self.images.shards])
        return [np.arange(end - len(s) * self.views, end) for end, s in zip(ends, self.images.shards, strict=True)]


def image_ids(label: str, keys: Sequence[str]) -> NDArray[np.int64]:
    """A number for each image, from the shard's name and the image's key; 63 bits of SHA-256.

    It stays when the set is moved or grows, so cached activations stay valid.
    """
    return np.asarray([image_id(label, key) for key in keys], np.int64)


def held_out(ids: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Indices of about a share (0-1) of the images, decided for each by its id and the seed alone; at least one."""
    mixed = (ids.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    drawn = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    chosen = np.flatnonzero(drawn < share)
    return chosen if len(chosen) else np.asarray([int(drawn.argmin())], np.int64)


def read_stream(
    transfer: str,
    size: int,
    views: int,
    teacher: Teacher,
    augment: Augment,
    seed: int,
    reserved: set[bytes],
    *,
    keep: str = "auto",
    engine: Engine,
    bars: Bars,
    say: Say,
) -> Streamed:
    """Compute, or find on disk, the teacher's activations of the images in tar shards.

    A shard that cannot be read to its end is skipped and named, as is an image that cannot be decoded.

    Args:
        transfer: as :func:`kdedge.data.shard_list.expand_shards` takes it.
        size: of the views, pixels.
        reserved: SHA-256 of the pixels of images that must not be trained on (validation, test).
        keep: decoded images on disk: ``off`` (of streaming) keeps all, ``on`` none, ``auto`` if the set takes at most 32 GB.

    Raises:
        DataError: no shards; more than 5 % of them (and more than one) broken; more than 5 % of the images unreadable; fewer
            shards than processes.
    """
    shards = expand_shards(transfer)
    named = dict(zip(shards, shard_labels(shards), strict=True))
    apart = sha256(b"".join(sorted(reserved))).hexdigest()
    key = settings_key(teacher, augment, seed, size=str(size), views=str(views), apart=apart, kind="shards")
    reader = _Reader(
        cache_dir("activations") / key,
        cache_dir("images") / f"shards-{size}-{apart[:16]}",
        Preprocess(size),
        views,
        teacher,
        augment,
        seed,
        reserved,
        keep,
        len(shards),
    )
    mine = [(url, named[url]) for url in split_shards(shards, engine.rank, engine.world)]
    found: list[tuple[Shard, Path]] = []
    broken: list[str] = []
    bad = 0
    with bars(f"Teacher sees {len(mine):,} shards, {views} views an image") as progress:
        for number, (url, label) in enumerate(mine):
            try:
                shard, path, unread = reader.take(url, label)
            except DataError as error:
                broken.append(str(error))
                say(f"skipped a shard: {error}")
            else:
                bad += unread
                if len(shard):
                    found.append((shard, path))
            progress(number + 1, len(mine))
    images = sum(len(shard) for shard, _ in found)
    together = engine.everyone((broken, bad, images))
    all_broken, all_bad = [line for lines, _, _ in together for line in lines], sum(n for _, n, _ in together)
    if len(all_broken) > max(1.0, MAX_BAD * len(shards)) or len(all_broken) == len(shards):
        raise DataError(f"{len(all_broken)} of {len(shards)} shards cannot be read: {'; '.join(all_broken[:3])}")
    total = all_bad + sum(n for _, _, n in together)
    if all_bad > MAX_BAD * total or any(n == 0 for _, _, n in together):
        raise DataError(
            f"{all_bad} of {total} images in {len(shards)} shards cannot be read, and every process needs some; "
            "up to 5 % are tolerated."
        )
    if all_bad:
        say(f"skipped {all_bad} of {total} images that cannot be read")
    state = "from the cache" if reader.computed == 0 else f"{reader.computed} shards new"
    say(f"teacher: {teacher.name}, {total - all_bad:,} images in {len(shards) - len(all_broken):,} shards ({state})")
    parts = [shard for shard, _ in found]
    activations = ActivationShards(
        tuple(path for _, path in found), tuple(len(shard) * views for shard in parts), teacher.dim
    )
    return Streamed(ShardedImages(parts, Preprocess(size)), activations, views)


@dataclass
class _Reader:
    home: Path
    store: Path
    fit: Preprocess
    views: int
    teacher: Teacher
    augment: Augment
    seed: int
    reserved: set[bytes]
    keep: str
    shards: int
    computed: int = 0

    def take(self, url: str, label: str) -> tuple[Shard, Path, int]:
        """The shard, its activations' file, and how many of its images cannot be read."""
        name = sha256(f"{label}\0{shard_fingerprint(url)}".encode()).hexdigest()[:24]
        path, about, pixels = self.home / f"{name}.npy", self.home / f"{name}.images.json", self.store / f"{name}.npy"
        known = self._known(about, url, pixels)
        if known is not None and shard_is_whole(path, len(known[0]) * self.views, self.teacher.dim):
            return known[0], path, known[1]
        read = decode_shard(url, self.fit)
        bad = len(read.bad)
        keep = [i for i, image in enumerate(read.images) if sha256(image.tobytes()).digest() not in self.reserved]
        kept = np.asarray([read.positions[i] for i in keep], np.int64)
        shard = Shard(url, kept, image_ids(label, [read.keys[i] for i in keep]), pixels)
        if keep:
            chosen = read.images if len(keep) == len(read.images) else read.images[keep]
            if self._room_for(chosen.nbytes):
                with atomic_path(pixels) as temporary, temporary.open("wb") as file:
                    np.lib.format.write_array(file, chosen)
            number, view = np.repeat(np.arange(len(shard)), self.views), np.tile(np.arange(self.views), len(shard))
            made = Views(chosen, number, view, shard.ids, self.augment, self.seed)
            write_activations(path, embed_views(self.teacher, made, np.arange(len(made))))
        write_json(about, {"kept": shard.kept.tolist(), "ids": shard.ids.tolist(), "bad": bad})
        self.computed += 1
        return shard, path, bad

    def _known(self, about: Path, url: str, pixels: Path) -> tuple[Shard, int] | None:
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
            kept, ids = np.asarray(found["kept"], np.int64), np.asarray(found["ids"], np.int64)
            return Shard(url, kept, ids, pixels), int(found["bad"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _room_for(self, needed: int) -> bool:
        if self.keep != "auto":
            return self.keep == "off"
        self.store.mkdir(parents=True, exist_ok=True)
        return needed * self.shards <= min(KEEP_DECODED, shutil.disk_usage(self.store).free // 2)
