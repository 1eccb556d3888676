"""Running networks on images, for verification: torch and ONNX through the same preprocessing."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.export.outputs import EMBEDDING, PROBABILITIES, Outputs
from kdedge.export.session import cpu_session
from kdedge.preprocess import Preprocess

__all__ = ["onnx_outputs", "torch_outputs"]

_BATCH = 16
_LEAST = 1e-6  # of a probability, before its logarithm is taken


def onnx_outputs(path: Path, images: NDArray[np.uint8], preprocess: Preprocess) -> Outputs:
    """What an exported file gives for fitted RGB images (N, size, size, 3), on the CPU."""
    session = cpu_session(path)
    entry = session.get_inputs()[0]
    names = [value.name for value in session.get_outputs()]
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) else 0
    parts = []
    for start in range(0, len(images), fixed or _BATCH):
        batch = preprocess.normalize(images[start : start + (fixed or _BATCH)])
        count = len(batch)
        if fixed > count:
            batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - count, 0)])
        parts.append([values[:count] for values in session.run(names, {entry.name: batch})])
    made = {name: np.concatenate([part[i] for part in parts]).astype(np.float32) for i, name in enumerate(names)}
    answer = made[names[0]]
    if names[0] == PROBABILITIES:
        answer = np.log(np.maximum(answer, _LEAST))
    return Outputs(answer, made.get(EMBEDDING))


def torch_outputs(model: nn.Module, images: NDArray[np.uint8], preprocess: Preprocess) -> Outputs:
    """What a PyTorch network gives in evaluation mode for fitted RGB images (N, size, size, 3).

    The embedding is there if the network is a :class:`kdedge.training.students.Student` or has ``embed`` and ``head`` like it.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    training = model.training
    embed: Any = getattr(model, "embed", None)
    head: Any = getattr(model, "head", None)
    parted = embed is not None and head is not None
    logits, embeddings = [], []
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = torch.from_numpy(preprocess.normalize(images[start : start + _BATCH])).to(device)
                if parted:
                    embedding = embed(batch)
                    embeddings.append(embedding.float().cpu())
                    logits.append(head(embedding).float().cpu())
                else:
                    logits.append(model(batch).float().cpu())
    finally:
        model.train(training)
    return Outputs(torch.cat(logits).numpy(), torch.cat(embeddings).numpy() if parted else None)
