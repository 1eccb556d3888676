"""Seeded views of an image: the same (image, view, seed) gives the same pixels, bit for bit, on every run."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode, v2

from kdedge.errors import RunError

if TYPE_CHECKING:
    from kdedge.preprocess import Image

__all__ = ["Augment", "make_view", "one_thread"]


@dataclass(frozen=True)
class Augment:
    """The random transforms of a view: each has its probability (0-1) and its range, and each is drawn on its own (S2).

    Attributes:
        flip: probability of a horizontal flip.
        rotate_p, rotate: probability and range of a rotation, degrees; one number is the largest angle either way.
        zoom_p, zoom: probability and range of the scale factor.
        shift: largest shift that goes with a change of scale, share of the side.
        jitter_p, jitter: probability and strength of brightness, contrast, saturation, hue.
        blur, blur_kernel, blur_sigma: probability of a Gaussian blur, its kernel (width, height) and its range, pixels.
        erase, erase_area: probability of random erasing (Zhong et al., arXiv 1708.04896) and range of the erased share.

    Raises:
        RunError: a probability outside 0-1 or a range that is none.
    """

    flip: float = 0.5
    rotate: float | tuple[float, float] = 20.0
    shift: float = 0.08
    zoom: tuple[float, float] = (0.8, 1.25)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.3, 0.03)
    blur: float = 0.3
    rotate_p: float = 1.0
    zoom_p: float = 1.0
    jitter_p: float = 1.0
    blur_kernel: tuple[int, int] = (5, 5)
    blur_sigma: tuple[float, float] = (0.1, 1.5)
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.2)

    def __post_init__(self) -> None:
        for name in ("flip", "rotate_p", "zoom_p", "jitter_p", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise RunError(f"augmentation: {name} is {getattr(self, name)}; a probability lies between 0 and 1.")
        for name in ("zoom", "blur_sigma", "erase_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise RunError(
                    f"augmentation: {name} is {low} to {high}; expected a range above zero, smaller end first."
                )
        if isinstance(self.rotate, tuple) and self.rotate[0] > self.rotate[1]:
            raise RunError(
                f"augmentation: rotate is {self.rotate[0]} to {self.rotate[1]}; the smaller end comes first."
            )
        if min(self.jitter) < 0 or self.jitter[3] > 0.5 or not 0 <= self.shift < 1 or self.erase_area[1] >= 1:
            raise RunError(
                "augmentation: jitter must not be negative (hue at most 0.5), shift and erased share are below 1."
            )
        if any(side < 1 or side % 2 == 0 for side in self.blur_kernel):
            raise RunError(f"augmentation: blur_kernel is {self.blur_kernel}; both sides must be odd and positive.")

    @classmethod
    def paper(cls) -> "Augment":
        """What the paper's published code used: no jitter, no erasing."""
        return cls(
            flip=0.5,
            rotate=(0.0, 45.0),
            rotate_p=0.5,
            shift=0.0,
            zoom=(0.7, 1.0),
            zoom_p=0.5,
            jitter_p=0.0,
            blur=0.1,
            blur_kernel=(5, 9),
        )

    @classmethod
    def light(cls) -> "Augment":
        """For small pictures of things: flip, small shifts and changes of scale and light."""
        return cls(rotate=5.0, shift=0.1, zoom=(0.9, 1.15), jitter=(0.2, 0.2, 0.2, 0.0), blur=0.0)

    @classmethod
    def named(cls, name: str) -> "Augment":
        """``default``, ``light`` or ``paper``; RunError otherwise."""
        makers: dict[str, Callable[[], Augment]] = {"default": cls, "light": cls.light, "paper": cls.paper}
        if name not in makers:
            raise RunError(f"unknown augmentation {name!r}; choose one of {', '.join(makers)}.")
        return makers[name]()

    def transform(self) -> v2.Transform:
        """The transform; it draws from torch's global generator."""
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(self.flip),
                *self._affine(),
                *_sometimes(v2.ColorJitter(*self.jitter), self.jitter_p),
                v2.RandomApply([v2.GaussianBlur(list(self.blur_kernel), self.blur_sigma)], self.blur),
                *([v2.RandomErasing(self.erase, self.erase_area)] if self.erase else []),
            ]
        )

    def _affine(self) -> list[v2.Transform]:
        shift, mode = (self.shift, self.shift), InterpolationMode.BILINEAR
        if self.rotate_p == self.zoom_p == 1.0:  # one interpolation instead of two
            return [v2.RandomAffine(self.rotate, shift, self.zoom, interpolation=mode)]
        turn = v2.RandomAffine(self.rotate, interpolation=mode)
        scale = v2.RandomAffine(0, shift if self.shift else None, self.zoom, interpolation=mode)
        return [*_sometimes(turn, self.rotate_p), *_sometimes(scale, self.zoom_p)]


def _sometimes(transform: v2.Transform, probability: float) -> list[v2.Transform]:
    if probability == 0.0:
        return []
    return [transform] if probability == 1.0 else [v2.RandomApply([transform], probability)]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Make views on one thread: for an image of 64 pixels, several threads take five times the CPU time (2 cores)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_view(image: "Image", transform: v2.Transform, number: int, view: int, seed: int) -> NDArray[np.uint8]:
    """View ``view`` of image ``number``; view 0 is the image itself.

    Args:
        image: uint8, (S, S, 3), RGB.
        transform: from :meth:`Augment.transform`.

    Returns:
        uint8, (S, S, 3), RGB.
    """
    if view == 0:
        return image
    key = int.from_bytes(sha256(f"{seed}/{number}/{view}".encode()).digest()[:8], "big") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)
        pixels: torch.Tensor = transform(torch.from_numpy(image).permute(2, 0, 1))
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
