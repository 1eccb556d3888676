"""Seeded views of an image: the same (image, view, seed) gives the same pixels, bit for bit, on every run."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode, v2

if TYPE_CHECKING:
    from kdedge.preprocess import Image

__all__ = ["Augment", "make_view"]


@dataclass(frozen=True)
class Augment:
    """Ranges of the random transforms of a view (probabilities 0-1).

    Attributes:
        flip: probability of a horizontal flip.
        rotate: largest rotation, degrees, either way.
        shift: largest shift, share of the side.
        zoom: range of the scale factor.
        jitter: strength of brightness, contrast, saturation, hue.
        blur: probability of a Gaussian blur (5x5, sigma 0.1-1.5 pixels).
    """

    flip: float = 0.5
    rotate: float = 20.0
    shift: float = 0.08
    zoom: tuple[float, float] = (0.8, 1.25)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.3, 0.03)
    blur: float = 0.3

    def transform(self) -> v2.Transform:
        """The transform; it draws from torch's global generator."""
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(self.flip),
                v2.RandomAffine(
                    self.rotate, (self.shift, self.shift), self.zoom, interpolation=InterpolationMode.BILINEAR
                ),
                v2.ColorJitter(*self.jitter),
                v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], self.blur),
            ]
        )


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
