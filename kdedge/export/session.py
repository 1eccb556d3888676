"""Running networks on images, for verification: torch and ONNX through the same preprocessing."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.preprocess import Preprocess

__all__ = ["Logits", "cpu_session", "onnx_logits", "torch_logits"]

Logits = NDArray[np.float32]
"""float32, (images, classes)."""

_BATCH = 16


def cpu_session(
    path: Path, dump: Path | None = None, config: Mapping[str, str] = MappingProxyType({})
) -> onnxruntime.InferenceSession:
    """A quiet session on the CPU, with as many threads as this process may use.

    Args:
        dump: where onnxruntime writes the graph it really runs, after its optimisations.
        config: more entries of the session's configuration (``session.qdqisint8allowed`` and the like).
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would starve other work
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    if dump is not None:
        options.optimized_model_filepath = str(dump)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_logits(path: Path, images: NDArray[np.uint8], preprocess: Preprocess) -> Logits:
    """Logits of an exported file for fitted RGB images (N, size, size, 3)."""
    session = cpu_session(path)
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: preprocess.normalize(images[start : start + _BATCH])})[0]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts).astype(np.float32)


def torch_logits(model: nn.Module, images: NDArray[np.uint8], preprocess: Preprocess) -> Logits:
    """Logits of a PyTorch network in evaluation mode for fitted RGB images (N, size, size, 3)."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [
                model(torch.from_numpy(preprocess.normalize(images[start : start + _BATCH])).to(device)).float().cpu()
                for start in range(0, len(images), _BATCH)
            ]
    finally:
        model.train(training)
    return torch.cat(parts).numpy()
