"""The bank of a distillation: transfer images from folders or tar shards, then the labelled and the validation images."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from kdedge.data.shard_list import is_sharded
from kdedge.errors import DataError
from kdedge.progress import Bars
from kdedge.training.activations import ViewBank, Views, build_bank, fit_to
from kdedge.training.config import DistillConfig
from kdedge.training.datasets import MOST_HELDOUT, Material
from kdedge.training.engine import Engine
from kdedge.training.joined import Joined
from kdedge.training.stream import Streamed, held_out, read_stream
from kdedge.training.teachers import Teacher
from kdedge.training.views import to_view

__all__ = ["bank_of", "few_images"]

Say = Callable[[str], None]


def bank_of(
    material: Material, config: DistillConfig, size: int, teacher: Teacher, engine: Engine, bars: Bars, say: Say
) -> tuple[Material, ViewBank]:
    """The teacher's activations of all views; with shards, the material then holds the images of this process's shards.

    Args:
        size: of the views, pixels.

    Raises:
        DataError: see :func:`kdedge.training.stream.read_stream` and :func:`kdedge.training.activations.build_bank`.
    """
    streamed = None
    if config.transfer and is_sharded(config.transfer):
        streamed = read_stream(
            config.transfer,
            size,
            1 if config.teacher_mode == "live" else config.views,
            teacher,
            config.augment,
            config.seed,
            _reserved(material, config),
            keep=config.stream,
            engine=engine,
            bars=bars,
            say=say,
        )
    images, views = to_view(material, config)
    bank = None
    if len(images):
        with bars(f"Teacher sees {sum(views):,} views") as progress:
            bank = build_bank(images, views, teacher, config.augment, config.seed, progress, engine=engine, say=say)
        how = "cached" if bank.reused else "new"
        say(f"teacher: {teacher.name}, {teacher.dim}-d activations of {len(bank):,} views ({how})")
    if streamed is None:
        assert bank is not None
        return material, bank
    count = len(streamed.images)
    share = min(config.heldout, MOST_HELDOUT / count)
    material = replace(material, transfer=streamed.images, held_transfer=held_out(streamed.ids, share, config.seed))
    if count < 3 and material.train is None:
        raise DataError(f"{count} images in the shards are too few to train on and to hold some out.")
    return material, _joined(streamed, bank, config, engine)


def _joined(streamed: Streamed, bank: ViewBank | None, config: DistillConfig, engine: Engine) -> ViewBank:
    """One bank; the labelled rows are dealt out to the shards' blocks, and to the processes, evenly."""
    count = len(streamed.images)
    number = np.repeat(np.arange(count), streamed.views)
    view = np.tile(np.arange(streamed.views), count)
    blocks = streamed.blocks()
    if bank is None:
        views = Views(streamed.images, number, view, streamed.ids, config.augment, config.seed)
        return ViewBank(views, streamed.activations, number, False, blocks)
    assert isinstance(bank.views, Views)
    views = Views(
        Joined([streamed.images, bank.views.images]),
        np.concatenate([number, bank.views.number + count]),
        np.concatenate([view, bank.views.view]),
        np.concatenate([streamed.ids, bank.views.ids]),
        config.augment,
        config.seed,
    )
    mine = np.arange(len(number) + engine.rank, len(number) + len(bank), engine.world)
    dealt: list[NDArray[np.int64]] = [mine[index :: len(blocks)] for index in range(len(blocks))]
    blocks = [np.concatenate([block, more]) for block, more in zip(blocks, dealt, strict=True)]
    activations = Joined([streamed.activations, bank.activations])
    return ViewBank(views, activations, np.concatenate([number, bank.image + count]), False, blocks)


def _reserved(material: Material, config: DistillConfig) -> set[bytes]:
    """Digests of the images that no shard may bring in: those of validation and test, and labelled ones trained on anyway."""
    seen = material.train if config.train_views else None
    return {
        sha256(image.tobytes()).digest()
        for part in (material.val, material.test, seen)
        if part
        for image in part.images
    }


def few_images(material: Material, config: DistillConfig, teacher: Teacher) -> NDArray[np.uint8]:
    """A few images to try the teacher on; of shards alone none is known yet."""
    images, _ = to_view(material, config)
    if len(images) < 2:
        size = teacher.preprocess.size
        return np.random.default_rng(0).integers(0, 256, (16, size, size, 3), np.uint8)
    return fit_to(np.asarray(images[np.linspace(0, len(images) - 1, 16).astype(np.int64)]), teacher.preprocess)
