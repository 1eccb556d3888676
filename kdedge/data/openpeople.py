"""The labelled faces of the demonstrations: ten people who do not exist, with about 26 faces each.

The photographs, six a person, come from the wheel ``openpeople`` (MIT). The crops of one ``emotions_sheet`` are alike;
the other five conditions change pose, light, clothes and background.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from kdedge.data.faces import FaceFinder, align, encode_png
from kdedge.data.folder import LabelledImages, class_folders
from kdedge.errors import DataError
from kdedge.files import write_bytes
from kdedge.preprocess import Image, decode
from kdedge.progress import Progress

__all__ = ["Crop", "crops", "write_faces"]


@dataclass(frozen=True)
class Crop:
    """One aligned face.

    Attributes:
        image: uint8 (size, size, 3), RGB.
        person: ``P001`` to ``P010``.
        condition: the photograph it is from, ``emotions_sheet`` for example.
        index: its place in the photograph, in reading order from 0.
    """

    image: Image
    person: str
    condition: str
    index: int


def crops(
    wheel: str | Path, finder: FaceFinder, *, size: int = 112, progress: Progress | None = None, workers: int = 2
) -> Iterator[Crop]:
    """All faces in the wheel's photographs, by person and condition.

    Args:
        wheel: the file that ``demo.fetch(demo.OPENPEOPLE)`` returned.
        finder: its least width decides what is background; 40 px leaves the one passer-by out.
        size: height and width of the crops, pixels.
    """
    with ZipFile(wheel) as archive:
        photographs = sorted(
            name for name in archive.namelist() if PurePosixPath(name).match("openpeople/data/curated/*/assets/*.jpg")
        )
    if not photographs:
        raise DataError(f"{wheel}: holds no photographs of people; the wheel openpeople 0.1.2 was expected.")

    def work(name: str) -> list[Crop]:
        with ZipFile(wheel) as archive:  # a ZipFile is not for several threads
            image = decode(archive.read(name))
        path = PurePosixPath(name)
        return [
            Crop(align(image, face.landmarks, size), path.parts[-3], path.stem, index)
            for index, face in enumerate(finder.find(image))
        ]

    with ThreadPoolExecutor(workers) as pool:
        for done, found in enumerate(pool.map(work, photographs), 1):
            yield from found
            if progress:
                progress(done, len(photographs))


def write_faces(
    wheel: str | Path,
    out: str | Path,
    finder: FaceFinder,
    *,
    size: int = 112,
    progress: Progress | None = None,
    workers: int = 2,
) -> LabelledImages:
    """Write :func:`crops` as ``out/faces/PERSON/CONDITION-INDEX.png`` and return them as labelled images."""
    folder = Path(out) / "faces"
    for crop in crops(wheel, finder, size=size, progress=progress, workers=workers):
        write_bytes(folder / crop.person / f"{crop.condition}-{crop.index:02d}.png", encode_png(crop.image))
    return class_folders(folder)
