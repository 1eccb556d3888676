"""Parts of faces: square crops of an eye, the nose and the mouth (the paper's S3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.data.faces import TEMPLATE, TEMPLATE_SIZE, Face, FaceFinder, align
from kdedge.errors import DataError
from kdedge.preprocess import Image, decode
from kdedge.progress import Progress

__all__ = ["PARTS", "SIDE", "FaceParts", "crop_parts", "draw_faces"]

PARTS = ("eye", "nose", "mouth")

SIDE = 0.7
"""Side of a crop in eye distances.

Eyes, nose tip and middle of the mouth lie about 0.58 eye distances apart from top to bottom, so that the nose's crop shares a
sixth of its area with the mouth's and a twentieth with the eye's.
"""

EYES_TO_MOUTH = float(np.hypot(*(TEMPLATE[3:].mean(0) - TEMPLATE[:2].mean(0))) / np.hypot(*(TEMPLATE[1] - TEMPLATE[0])))
"""Between the eyes' middle and the mouth's, in eye distances, in a face seen from the front (1.16)."""


def crop_parts(image: Image, landmarks: NDArray[Any], size: int, side: float = SIDE) -> NDArray[np.uint8]:
    """Cut eye, nose and mouth out of a face, each with its landmark in the middle and the line of the eyes level.

    The eye is the image's left one; the mouth's middle is that of its corners. The head may be turned: what counts as eye
    distance is at least what the distance from eyes to mouth says of a face seen from the front. What lies outside the
    image is mirrored.

    Args:
        landmarks: (5, 2), x and y in pixels of ``image``, in the order of :attr:`Face.landmarks`.
        size: height and width of a crop, pixels.
        side: of the square that is cut out, in eye distances.

    Returns:
        uint8 (3, size, size, 3), RGB, in the order of :data:`PARTS`.

    Raises:
        DataError: the landmarks are not five points, or the eyes are one point.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2):
        raise DataError(f"five landmarks of shape (5, 2) are needed to find a face's parts, got {points.shape}.")
    eyes = points[1] - points[0]
    apart = float(np.hypot(*eyes))
    if not apart > 0:
        raise DataError("both eyes of a face are the same point; its parts cannot be cut out.")
    mouth = points[3:].mean(0)
    distance = max(apart, float(np.hypot(*(mouth - points[:2].mean(0)))) / EYES_TO_MOUTH)
    cos, sin = eyes / apart
    turn = np.array([[cos, sin], [-sin, cos]])  # of row vectors, from the upright crop to the image
    # align() lays a face on the template: a face made of the template, put where the square is, makes it cut the square out
    middle = (size - 1) / 2 * TEMPLATE_SIZE / size
    square = (TEMPLATE - middle) * (side * distance / TEMPLATE_SIZE) @ turn
    return np.stack([align(image, centre + square, size) for centre in (points[0], points[2], mouth)])


@dataclass(frozen=True)
class FaceParts:
    """Parts of the biggest face of each drawn image.

    Attributes:
        crops: uint8 (F, 3, size, size, 3), RGB; the second axis is that of :data:`PARTS`.
        paths: the F images.
        faceless: how many of the images searched show no face that is wide enough, with all its landmarks in the image.
        bad: how many cannot be read.
    """

    crops: NDArray[np.uint8]
    paths: tuple[Path, ...]
    faceless: int
    bad: int


def draw_faces(
    paths: Sequence[Path],
    finder: FaceFinder,
    size: int,
    *,
    most: int = 20,
    least: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> FaceParts:
    """Search images in an order that ``seed`` decides until ``most`` of them have shown a face.

    Args:
        size: height and width of a crop, pixels.
        least: how many faces there must be.
        progress: counts faces.

    Raises:
        DataError: fewer than ``least`` faces were found.
    """
    crops: list[NDArray[np.uint8]] = []
    used: list[Path] = []
    faceless = bad = 0
    for number in np.random.default_rng(seed).permutation(len(paths)).tolist():
        if len(used) == most:
            break
        try:
            image = decode(paths[number])
        except DataError:
            bad += 1
            continue
        face = _biggest(finder.find(image), image)
        if face is None:
            faceless += 1
            continue
        crops.append(crop_parts(image, face.landmarks, size))
        used.append(paths[number])
        if progress:
            progress(len(used), min(most, len(paths)))
    if len(used) < least:
        unread = f", {bad} of them unreadable" if bad else ""
        raise DataError(
            f"{len(used)} faces at least {finder.min_width:g} px wide were found in {len(paths)} images{unread}; "
            f"at least {least} are needed. Give more images, or lower --min-width."
        )
    return FaceParts(np.stack(crops), tuple(used), faceless, bad)


def _biggest(faces: list[Face], image: Image) -> Face | None:
    limit = np.array([image.shape[1], image.shape[0]])
    whole = [face for face in faces if ((face.landmarks >= 0) & (face.landmarks < limit)).all()]
    return max(whole, key=lambda face: face.box[2] * face.box[3], default=None)
