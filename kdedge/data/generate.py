"""Unlabelled images from a generator, one file a seed, so that a transfer set is a range of numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.data.faces import encode_png
from kdedge.errors import DataError
from kdedge.files import write_bytes
from kdedge.progress import Progress

__all__ = ["Generator", "generate"]

Generator = Callable[[Sequence[int]], NDArray[np.uint8]]
"""Seeds in, uint8 (B, H, W, 3) RGB out; the image of a seed must not depend on the other seeds of the batch."""

END_OF_PNG = b"IEND\xaeB`\x82"


def generate(
    generator: Generator, seeds: range, out: str | Path, *, batch: int = 64, progress: Progress | None = None
) -> list[Path]:
    """Write the image of each seed as ``out/SEED.png`` (six digits or more); whole files that exist are kept.

    Returns:
        The files of all seeds, in the order of ``seeds``.

    Raises:
        DataError: ``seeds`` is empty or reaches below zero, or the generator returns no batch of images.
    """
    if not seeds or min(seeds) < 0:
        raise DataError(
            f"seeds {seeds.start}:{seeds.stop} hold no numbers from 0 upwards; 0:3000 would be 3,000 images."
        )
    if batch < 1:
        raise DataError(f"a batch of {batch} images cannot be generated; at least 1 is needed.")
    paths = {seed: Path(out) / f"{seed:06d}.png" for seed in seeds}
    missing = [seed for seed, path in paths.items() if not _whole(path)]
    done = len(seeds) - len(missing)
    if progress:
        progress(done, len(seeds))
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        images = generator(part)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != len(part) or images.shape[3] != 3:
            raise DataError(
                f"the generator returned {images.dtype} {images.shape} where uint8 ({len(part)}, H, W, 3) was expected."
            )
        for seed, image in zip(part, images, strict=True):
            write_bytes(paths[seed], encode_png(image))
        done += len(part)
        if progress:
            progress(done, len(seeds))
    return list(paths.values())


def _whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(-min(file.tell(), len(END_OF_PNG)), 2)
            return file.read() == END_OF_PNG
    except OSError:
        return False
