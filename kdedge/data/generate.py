"""Unlabelled images from a generator, one a seed, so that a transfer set is a range of numbers."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.data.faces import encode_png
from kdedge.data.shards import shard_names, write_shard
from kdedge.errors import DataError
from kdedge.files import write_bytes, write_json
from kdedge.preprocess import resize
from kdedge.progress import Progress

__all__ = ["ABOUT", "Generator", "claim", "generate", "generate_shards"]

Generator = Callable[[Sequence[int]], NDArray[np.uint8]]
"""Seeds in, uint8 (B, H, W, 3) RGB out; the image of a seed must not depend on the other seeds of the batch."""

ABOUT = "generator.json"
END_OF_PNG = b"IEND\xaeB`\x82"


def claim(out: str | Path, about: dict[str, str | int | None]) -> None:
    """Note in ``out/generator.json`` what its images are made with.

    Raises:
        DataError: images made with something else are there already; the two would be mixed.
    """
    file = Path(out) / ABOUT
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read ({error}); remove it to go on in this folder.") from error
        changed = [key for key in about if not isinstance(before, dict) or before.get(key) != about[key]]
        if changed:
            raise DataError(
                f"{out}: holds images of another generator or other settings ({', '.join(changed)}); name another --out."
            )
    else:
        write_json(file, about)


def generate(
    generator: Generator,
    seeds: range,
    out: str | Path,
    *,
    batch: int = 64,
    size: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the image of each seed as ``out/SEED.png`` (six digits or more); whole files that exist are kept.

    Args:
        size: scale the images to that many pixels; None keeps them as they are.

    Returns:
        The files of all seeds, in the order of ``seeds``.

    Raises:
        DataError: ``seeds`` is empty or reaches below zero, or the generator returns no batch of images.
    """
    _check(seeds, batch)
    paths = {seed: Path(out) / f"{_name(seed)}.png" for seed in seeds}
    missing = [seed for seed, path in paths.items() if not _whole(path)]
    done = len(seeds) - len(missing)
    if progress:
        progress(done, len(seeds))
    for part, images in _batches(generator, missing, batch, size):
        for seed, image in zip(part, images, strict=True):
            write_bytes(paths[seed], image)
        done += len(part)
        if progress:
            progress(done, len(seeds))
    return list(paths.values())


def generate_shards(
    generator: Generator,
    seeds: range,
    out: str | Path,
    *,
    each: int = 1000,
    batch: int = 64,
    size: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the images as tar shards for WebDataset, ``out/FIRST-LAST.tar`` with the members ``SEED.png``.

    Shards that are there and hold their seeds are kept; one is written whole or not at all.

    Args:
        each: images a shard; the last one may hold fewer.
        size: as in :func:`generate`.

    Raises:
        DataError: as :func:`generate` does.
    """
    _check(seeds, batch)
    if each < 1:
        raise DataError(f"shards of {each} images make no sense; at least 1 is needed.")
    written: list[Path] = []
    done = 0
    for start in range(seeds.start, seeds.stop, each):
        part = range(start, min(start + each, seeds.stop))
        path = Path(out) / f"{_name(part[0])}-{_name(part[-1])}.tar"
        if not _holds(path, part):
            write_shard(path, _members(generator, part, batch, size, done, len(seeds), progress))
        written.append(path)
        done += len(part)
        if progress:
            progress(done, len(seeds))
    return written


def _check(seeds: range, batch: int) -> None:
    if not seeds or min(seeds) < 0:
        raise DataError(
            f"seeds {seeds.start}:{seeds.stop} hold no numbers from 0 upwards; 0:3000 would be 3,000 images."
        )
    if batch < 1:
        raise DataError(f"a batch of {batch} images cannot be generated; at least 1 is needed.")


def _batches(
    generator: Generator, seeds: Sequence[int], batch: int, size: int | None
) -> Iterator[tuple[Sequence[int], list[bytes]]]:
    """Parts of the seeds and their images as PNG."""
    for start in range(0, len(seeds), batch):
        part = seeds[start : start + batch]
        images = generator(part)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != len(part) or images.shape[3] != 3:
            raise DataError(
                f"the generator returned {images.dtype} {images.shape} where uint8 ({len(part)}, H, W, 3) was expected."
            )
        yield part, [encode_png(image if size is None else resize(image, size)) for image in images]


def _members(
    generator: Generator,
    seeds: range,
    batch: int,
    size: int | None,
    before: int,
    total: int,
    progress: Progress | None,
) -> Iterator[tuple[str, bytes]]:
    for part, images in _batches(generator, seeds, batch, size):
        yield from ((f"{_name(seed)}.png", image) for seed, image in zip(part, images, strict=True))
        before += len(part)
        if progress:
            progress(before, total)


def _name(seed: int) -> str:
    return f"{seed:06d}"


def _holds(path: Path, seeds: range) -> bool:
    if not path.is_file():
        return False
    try:
        return shard_names(path) == [f"{_name(seed)}.png" for seed in seeds]
    except DataError:
        return False


def _whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(-min(file.tell(), len(END_OF_PNG)), 2)
            return file.read() == END_OF_PNG
    except OSError:
        return False
