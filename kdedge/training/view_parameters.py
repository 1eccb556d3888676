"""The random numbers of views: drawn on the CPU, by a counter, from (seed, id, view) and nothing else.

Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a key and a counter into random words
without any state. Seed and id are the key, the view is part of the counter, so no two views share words, and a view has the
same ones wherever, whenever and in whatever company it is made. Every parameter has its own word: another setting of one
transform leaves the draws of the others as they were.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.training.augment import Augment

__all__ = ["ViewParameters", "draw_parameters"]

ERASE_RATIO = (0.3, 3.3)
"""Height over width of an erased rectangle (Zhong et al., arXiv 1708.04896, section 4: r1 = 0.3; torchvision's range)."""

ERASE_TRIES = 10
"""Rectangles tried until one is smaller than the image, as torchvision does."""

WORDS = 17
"""Random words of a view before those of erasing's tries."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ViewParameters:
    """What happens to each of B images; the order of the attributes is the order of the transforms.

    Attributes:
        flip: bool, (B,): mirrored left to right.
        angle: (B,): degrees, clockwise, about the centre; 0 for none.
        scale: (B,): above 1 enlarges, about the centre; 1 for none.
        shift: (B, 2): to the right and down, shares of the side, rounded to whole pixels when applied.
        brightness, contrast, saturation: (B,): factors, 0 or more; 1 for none.
        hue: (B,): turns of the colour circle, -0.5 to 0.5; 0 for none.
        sigma: (B,): standard deviation of the Gaussian blur, pixels; 0 for none.
        erase: (B, 4): height and width of the erased rectangle, shares of the side (0 for none), and its top and left,
            shares of the room that it leaves, 0-1.
    """

    flip: NDArray[np.bool_]
    angle: Array
    scale: Array
    shift: Array
    brightness: Array
    contrast: Array
    saturation: Array
    hue: Array
    sigma: Array
    erase: Array

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> "ViewParameters":
        """Those of some of the images, by a slice, by numbers or by a mask."""
        return ViewParameters(**{name: values[rows] for name, values in self._arrays()})

    @classmethod
    def identity(cls, count: int) -> "ViewParameters":
        """Those that leave ``count`` images as they are."""
        return cls(
            flip=np.zeros(count, bool),
            angle=np.zeros(count),
            scale=np.ones(count),
            shift=np.zeros((count, 2)),
            brightness=np.ones(count),
            contrast=np.ones(count),
            saturation=np.ones(count),
            hue=np.zeros(count),
            sigma=np.zeros(count),
            erase=np.zeros((count, 4)),
        )

    def moved(self) -> NDArray[np.bool_]:
        """(B,): whether an image is turned, scaled or shifted, so resampled."""
        found: NDArray[np.bool_] = (self.shift != 0).any(1) | (self.angle != 0) | (self.scale != 1)
        return found

    def erased(self) -> NDArray[np.bool_]:
        """(B,): whether an image loses a rectangle."""
        return (self.erase[:, 0] > 0) & (self.erase[:, 1] > 0)

    def changed(self) -> NDArray[np.bool_]:
        """(B,): whether anything at all happens to an image."""
        found: NDArray[np.bool_] = self.flip | self.moved() | self.erased() | (self.hue != 0) | (self.sigma != 0)
        for factor in (self.brightness, self.contrast, self.saturation):
            found |= factor != 1
        return found

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def draw_parameters(ids: NDArray[np.int64], views: NDArray[np.int64], augment: Augment, seed: int) -> ViewParameters:
    """What happens in each view; the same on every machine, and nothing in view 0.

    Args:
        ids: (B,): which image; any number.
        views: (B,): which of its views.
        seed: any number, of which the lowest 64 bits count.

    Raises:
        DataError: ids and views are not of one length.
    """
    if ids.ndim != 1 or ids.shape != views.shape:
        raise DataError(f"views: {ids.shape} ids and {views.shape} views; give one of each for every image.")
    draws = _uniform(ids, views, seed, WORDS + (2 * ERASE_TRIES if augment.erase else 0))
    drawn = np.flatnonzero(views)
    part = _parameters(draws[drawn], augment)
    result = ViewParameters.identity(len(ids))
    for (_, values), (_, found) in zip(result._arrays(), part._arrays(), strict=True):
        values[drawn] = found
    return result


def _uniform(ids: NDArray[np.int64], views: NDArray[np.int64], seed: int, count: int) -> Array:
    """Numbers (B, count) in [0, 1), multiples of 2^-53; rows of view 0 are zeros."""
    generator = np.random.Philox(key=0)
    state = generator.state  # setting it takes 3 microseconds, making another generator 17
    inner, result = state["state"], np.zeros((len(ids), count))
    low = seed & (2**64 - 1)
    for row, (number, view) in enumerate(zip(ids.astype(np.int64).view(np.uint64), views.tolist(), strict=True)):
        if view == 0:
            continue
        inner["key"] = np.array([low, number], np.uint64)
        inner["counter"] = np.array([0, view & (2**64 - 1), 0, 0], np.uint64)
        generator.state = state
        result[row] = (generator.random_raw(count) >> np.uint64(11)) * 2.0**-53
    return result


def _parameters(u: Array, augment: Augment) -> ViewParameters:
    """From uniform numbers (B, WORDS or more)."""
    largest = augment.rotate
    turn = largest if isinstance(largest, tuple) else (-largest, largest)
    zoomed, jittered = u[:, 3] < augment.zoom_p, u[:, 7] < augment.jitter_p
    factors = [
        np.where(jittered, _between(u[:, 8 + index], max(0.0, 1 - strength), 1 + strength), 1.0)
        for index, strength in enumerate(augment.jitter[:3])
    ]
    hue = _between(u[:, 11], -augment.jitter[3], augment.jitter[3])
    return ViewParameters(
        flip=u[:, 0] < augment.flip,
        angle=np.where(u[:, 1] < augment.rotate_p, _between(u[:, 2], *turn), 0.0),
        scale=np.where(zoomed, _between(u[:, 4], *augment.zoom), 1.0),
        shift=np.where(zoomed[:, None], _between(u[:, 5:7], -augment.shift, augment.shift), 0.0),
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        hue=np.where(jittered, hue, 0.0),
        sigma=np.where(u[:, 12] < augment.blur, _between(u[:, 13], *augment.blur_sigma), 0.0),
        erase=_rectangles(u, augment) if augment.erase else np.zeros((len(u), 4)),
    )


def _between(u: Array, low: float, high: float) -> Array:
    return low + u * (high - low)


def _rectangles(u: Array, augment: Augment) -> Array:
    """The first try (of each image) that fits, (B, 4); zeros where erasing is not drawn or no try fits."""
    area = _between(u[:, WORDS::2], *augment.erase_area)
    logs = _between(u[:, WORDS + 1 :: 2], *map(math.log, ERASE_RATIO))
    ratio = np.array([math.exp(value) for value in logs.ravel()]).reshape(logs.shape)  # numpy's bits vary with the CPU
    sides = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], 2)  # (B, tries, 2)
    fits = np.all(sides < 1, axis=2)
    first = sides[np.arange(len(u)), fits.argmax(1)]
    erased = (u[:, 14] < augment.erase) & fits.any(1)
    return np.where(erased[:, None], np.concatenate([first, u[:, 15:17]], 1), 0.0)
