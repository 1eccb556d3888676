"""Running a network over many images in eval mode."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdedge.preprocess import Preprocess
from kdedge.progress import Progress
from kdedge.training.activations import fit_to
from kdedge.training.engine import Engine
from kdedge.training.joined import RowArray

__all__ = ["as_input", "run_batches"]


def as_input(images: NDArray[np.uint8] | Tensor, preprocess: Preprocess, engine: Engine) -> Tensor:
    """Square RGB images, uint8, to the network's input on its device.

    Args:
        images: an array (B, S, S, 3), or a tensor (B, 3, S, S), which is normalised where it lies, to the same numbers.
    """
    if isinstance(images, Tensor):
        if images.shape[-1] == preprocess.size:
            return engine.laid_out(_normalize(images.to(engine.device), preprocess))
        images = images.permute(0, 2, 3, 1).cpu().numpy()
    return engine.tensor(preprocess.normalize(fit_to(images, preprocess)))


def _normalize(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    mean, std = (
        torch.from_numpy(np.asarray(values, np.float32)).to(pixels.device).view(1, 3, 1, 1)
        for values in (preprocess.mean, preprocess.std)
    )
    planes = pixels.flip(1) if preprocess.color == "bgr" else pixels
    return (planes.float() - mean) * (1.0 / std)


def run_batches(
    forward: Callable[[Tensor], Tensor],
    images: RowArray,
    preprocess: Preprocess,
    engine: Engine,
    batch: int = 64,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """``forward`` over (N, S, S, 3) images in fp32, as float32 (N, D). The caller puts the network in eval mode."""
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = as_input(images[start : start + batch], preprocess, engine)
            parts.append(forward(part).float().cpu().numpy())
            if progress:
                progress(min(start + batch, len(images)), len(images))
    return np.concatenate(parts)
