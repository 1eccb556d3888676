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

__all__ = ["as_input", "run_batches"]


def as_input(images: NDArray[np.uint8], preprocess: Preprocess, engine: Engine) -> Tensor:
    """Square RGB images (B, S, S, 3), uint8, to the network's input on its device."""
    return engine.tensor(preprocess.normalize(fit_to(images, preprocess)))


def run_batches(
    forward: Callable[[Tensor], Tensor],
    images: NDArray[np.uint8],
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
