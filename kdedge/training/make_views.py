"""Views of a batch of images at once, on the images' device, each the same bits in whatever batch it is made.

What happens to a view is drawn on the CPU (:mod:`kdedge.training.view_parameters`); here it is done to the pixels. So that
the bits depend on nothing but the image and its parameters,

- a transform touches only the images that are to be changed by it,
- every step is a plain product, sum or comparison of float32: torch may fuse ``addcmul``, ``lerp`` or a sum with ``alpha``
  in the vectorised part of a row but not in its tail, and which part a pixel falls into depends on the batch,
- the one reduction (mean grey level) is a sum of whole numbers, exact in any order,
- numpy's ``exp``, ``sin`` and ``cos``, whose bits may vary with a number's place in an array, are left to ``math``,
- pixels are rounded once, at the end.

Another kind of processor may round a last bit otherwise: the parameters are the same there, a grey level may not be.

Formulas and conventions are those of torchvision's ``transforms.v2.functional``; brightness, contrast, saturation and hue are
changed in this order, where torchvision's ``ColorJitter`` draws one.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from kdedge.errors import DataError, RunError
from kdedge.training.augment import Augment
from kdedge.training.view_parameters import ViewParameters, draw_parameters

__all__ = ["apply_parameters", "make_views"]

CHUNK = {"cpu": 1 << 17}
"""Pixels worked on at a time: on a CPU as many as fit its cache ..."""

LARGE_CHUNK = 1 << 22
"""... elsewhere about 80 images of 224 pixels, which take about 0.4 GB."""

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601, as torchvision rounds them)."""

Transform = Callable[[Tensor, ViewParameters], Tensor]


def make_views(images: Tensor, ids: NDArray[np.int64], views: NDArray[np.int64], augment: Augment, seed: int) -> Tensor:
    """Views of images; view 0 is the image itself.

    Args:
        images: uint8, (B, 3, S, S), on any device; left as they are.
        ids: (B,): numbers of the images, any at all: with the seed they choose the random numbers.
        views: (B,): numbers of the views.

    Returns:
        uint8, (B, 3, S, S), on the images' device; bit for bit the same in any batch.

    Raises:
        DataError: images of another shape or type, or not as many ids or views.
        RunError: images smaller than half the kernel of the blur.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise DataError(f"views: images {tuple(images.shape)} of {images.dtype}; expected uint8, (B, 3, S, S).")
    if len(images) != len(ids):
        raise DataError(f"views: {len(images)} images and {len(ids)} ids; give one of each for every image.")
    parameters = draw_parameters(ids, views, augment, seed)
    with one_thread() if images.device.type == "cpu" else contextlib.nullcontext():
        return apply_parameters(images, parameters, augment.blur_kernel)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Work on one thread: a second one gains little on images this small, and where cores are shared it costs much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def apply_parameters(images: Tensor, parameters: ViewParameters, blur_kernel: tuple[int, int]) -> Tensor:
    """Images (B, 3, S, S), uint8, changed by parameters of length B; ``blur_kernel`` is (width, height), both odd."""
    side = images.shape[-1]
    if parameters.sigma.any() and max(blur_kernel) // 2 >= side:
        raise RunError(
            f"augmentation: images of {side} pixels and a blur_kernel of {blur_kernel}; choose a kernel below {2 * side}."
        )
    result = images.clone(memory_format=torch.contiguous_format)
    changed = np.flatnonzero(parameters.changed())
    size = max(1, CHUNK.get(images.device.type, LARGE_CHUNK) // max(1, side * side))
    for start in range(0, len(changed), size):
        rows = changed[start : start + size]
        where = torch.from_numpy(rows).to(images.device)
        drawn = parameters[rows]
        pixels = _transformed(result.index_select(0, where), drawn, blur_kernel).round_().to(torch.uint8)
        result.index_copy_(0, where, _on(pixels, drawn.erased(), _erase, drawn))
    return result


def _transformed(images: Tensor, parameters: ViewParameters, blur_kernel: tuple[int, int]) -> Tensor:
    """All but erasing, float32, not yet rounded; may change ``images``."""
    images = _on(images, parameters.flip, lambda some, _: some.flip(-1), parameters)
    pixels = images.to(torch.float32)
    steps: list[tuple[NDArray[np.bool_], Transform]] = [
        (parameters.moved(), _affine),
        (parameters.brightness != 1, _brightness),
        (parameters.contrast != 1, _contrast),
        (parameters.saturation != 1, _saturation),
        (parameters.hue != 0, _hue),
        (parameters.sigma != 0, lambda some, drawn: _blur(some, drawn, blur_kernel)),
    ]
    for chosen, transform in steps:
        pixels = _on(pixels, chosen, transform, parameters)
    return pixels


def _on(pixels: Tensor, chosen: NDArray[np.bool_], transform: Transform, parameters: ViewParameters) -> Tensor:
    """``pixels`` with the ``chosen`` images transformed; may change them in place."""
    if not chosen.any():
        return pixels
    if chosen.all():
        return transform(pixels, parameters)
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(pixels.device)
    return pixels.index_copy_(0, rows, transform(pixels.index_select(0, rows), parameters[chosen]))


def _on_device(values: NDArray[np.float64], pixels: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(pixels.device)


def _each(values: NDArray[np.float64], pixels: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)"""
    return _on_device(values, pixels)[:, None, None, None]


def _affine(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    """Rotation and scale about the centre, then the shift: one bilinear resampling, zeros outside."""
    count, side = len(parameters), pixels.shape[-1]
    angles = [math.radians(angle) for angle in parameters.angle.tolist()]
    cos = np.array([math.cos(angle) for angle in angles]) / parameters.scale
    sin = np.array([math.sin(angle) for angle in angles]) / parameters.scale
    centres = (np.arange(side) + 0.5 - side / 2) * (2 / side)  # in half sides from the image's centre, as grid_sample
    shift = np.rint(parameters.shift * side) * (2 / side)
    x, y = centres - shift[:, :1], centres - shift[:, 1:]  # (B, S) each
    grid = pixels.new_empty((count, side, side, 2))
    for axis, (of_x, of_y) in enumerate([(cos, sin), (-sin, cos)]):
        columns, rows = _on_device(of_x[:, None] * x, pixels), _on_device(of_y[:, None] * y, pixels)
        torch.add(columns[:, None, :], rows[:, :, None], out=grid[..., axis])
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _brightness(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    return pixels.mul_(_each(parameters.brightness, pixels)).clamp_(0, 255)


def _contrast(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    grey = _grey(pixels).floor_()
    mean = grey.sum(-1).to(torch.float64).sum(-1) / grey[0].numel()  # a row's sum is below 2^24, so exact in float32
    other = mean.to(torch.float32)[:, None, None, None] * _each(1 - parameters.contrast, pixels)
    return pixels.mul_(_each(parameters.contrast, pixels)).add_(other).clamp_(0, 255)


def _saturation(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    other = _grey(pixels)[:, None].mul_(_each(1 - parameters.saturation, pixels))
    return pixels.mul_(_each(parameters.saturation, pixels)).add_(other).clamp_(0, 255)


def _grey(pixels: Tensor) -> Tensor:
    """(B, S, S)"""
    red, green, blue = pixels.unbind(1)
    return (red * GREY[0]).add_(green * GREY[1]).add_(blue * GREY[2])


def _hue(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    """Turn the hue in HSV; value and saturation stay, so the largest and the smallest channel do.

    A channel is the smallest one plus the chroma times a trapezoid of the hue, which is what HSV to RGB comes to.
    """
    red, green, blue = pixels.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    by_green, by_blue = blue - red + chroma * 2, red - green + chroma * 4
    turned = torch.where(high == red, green - blue, torch.where(high == green, by_green, by_blue))
    turned.div_(chroma.clamp_min(1e-6))  # grey has no hue; whatever it gets is multiplied by a chroma of 0
    hue = turned.add_(_each(6 * parameters.hue, pixels)[:, 0])  # in sixths of a turn
    hue.sub_((hue * (1 / 6)).floor_().mul_(6))
    shares = [
        (hue - 3).abs_().sub_(1),
        (hue - 2).abs_().neg_().add_(2),
        (hue - 4).abs_().neg_().add_(2),
    ]
    return torch.stack([share.clamp_(0, 1).mul_(chroma).add_(low) for share in shares], 1)


def _blur(pixels: Tensor, parameters: ViewParameters, kernel: tuple[int, int]) -> Tensor:
    """A Gaussian of its own width for each image, along rows, then along columns; the edge mirrors the image."""
    for dim, length in ((3, kernel[0]), (2, kernel[1])):
        reach, side = length // 2, pixels.shape[dim]
        taps = np.array([_taps(sigma, reach) for sigma in parameters.sigma.tolist()])
        wide = pad(pixels, (reach, reach, 0, 0) if dim == 3 else (0, 0, reach, reach), mode="reflect")
        pixels = pixels * _each(taps[:, 0], pixels)
        for step in range(1, reach + 1):
            both = wide.narrow(dim, reach - step, side) + wide.narrow(dim, reach + step, side)
            pixels.add_(both.mul_(_each(taps[:, step], pixels)))
    return pixels


def _taps(sigma: float, reach: int) -> list[float]:
    """A kernel's weights from its centre outwards; with those of the other side they sum to 1."""
    steps = [step / sigma for step in range(reach + 1)]
    weights = [math.exp(-0.5 * step * step) for step in steps]
    total = weights[0] + 2 * sum(weights[1:])
    return [weight / total for weight in weights]


def _erase(pixels: Tensor, parameters: ViewParameters) -> Tensor:
    """Blacken the rectangle; it is always smaller than the image."""
    side = pixels.shape[-1]
    sizes = np.minimum(np.rint(parameters.erase[:, :2] * side), side - 1)
    starts = np.floor(parameters.erase[:, 2:] * (side - sizes + 1))
    places = np.arange(side)[:, None, None]
    inside = torch.from_numpy((places >= starts) & (places < starts + sizes)).to(pixels.device)  # (S, B, 2)
    down, across = inside.permute(2, 1, 0)
    return pixels.masked_fill_((down[:, :, None] & across[:, None, :])[:, None], 0)
