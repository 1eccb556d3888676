"""The packaged face generator: a DCGAN of 64 px, one face a seed."""

import io
import pickle
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.data.generate import Generator
from kdedge.errors import ModelError

__all__ = ["DCGAN", "load_dcgan"]

WIDTHS = (512, 256, 128, 64)
LATENT = 100
BATCH = 64


class DCGAN(nn.Module):
    """Generator of Radford et al., "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016.

    Five transposed convolutions of 4 x 4: the first opens a 1 x 1 latent to 4 x 4, each other doubles height and width.
    """

    def __init__(self, latent: int = LATENT, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = latent
        for number, width in enumerate(widths):
            stride, padding = (1, 0) if number == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)]
            before = width
        layers += [nn.ConvTranspose2d(before, 3, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Latents (B, latent, 1, 1) to RGB images (B, 3, 64, 64) in -1 to 1."""
        images: Tensor = self.main(latent)
        return images


def load_dcgan(data: bytes) -> Generator:
    """The generator in the bytes of a torch file with the key ``netG_state_dict``.

    Returns:
        Seeds to uint8 (B, 64, 64, 3), RGB. A seed's latent comes from its own random generator and its pixels do not
        depend on the other seeds of the call.

    Raises:
        ModelError: not a torch file that loads with ``weights_only``, or weights of another network.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)["netG_state_dict"]
        network = DCGAN()
        network.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise ModelError(f"the generator's weights cannot be loaded: {error}") from error
    network.eval().to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def images(seeds: Sequence[int]) -> NDArray[np.uint8]:
        parts = [_images(network, seeds[start : start + BATCH]) for start in range(0, len(seeds), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, 64, 64, 3), np.uint8)

    return images


def _images(network: DCGAN, seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Always ``BATCH`` latents, the last ones unused: other batch sizes take other kernels, which round differently."""
    latents = torch.zeros(BATCH, LATENT, 1, 1).contiguous(memory_format=torch.channels_last)
    for number, seed in enumerate(seeds):
        latents[number] = torch.randn(LATENT, 1, 1, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        pixels = ((network(latents) + 1) * 127.5).round().clamp(0, 255).byte()
    return np.ascontiguousarray(pixels[: len(seeds)].permute(0, 2, 3, 1).numpy())
