"""Untrained networks for a GPU's providers: float16, and the int8 that TensorRT takes."""

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from kdedge.errors import ExportError
from kdedge.export.float16 import write_float16
from kdedge.export.graph import read_card, write_card
from kdedge.export.networks import network_onnx
from kdedge.export.quantize import quantize_int8
from kdedge.export.targets import target_for
from kdedge.files import atomic_path, cache_dir
from kdedge.progress import Progress

__all__ = ["network_gpu"]

_IMAGES = 16


def network_gpu(
    name: str,
    size: int,
    precision: Literal["fp16", "int8"],
    classes: int = 1000,
    progress: Progress | None = None,
) -> Path:
    """The network of :func:`kdedge.export.networks.network_onnx` for the target ``jetson``, kept in the cache.

    ``int8`` is symmetric, as TensorRT wants it: a bad file for a CPU.

    Args:
        name, size, classes, progress: as there.
        precision: ``fp16`` or ``int8``.

    Raises:
        ExportError: unknown precision, or the network cannot be written so.
        ModelError: unknown name.
    """
    if precision not in ("fp16", "int8"):
        raise ExportError(f"precision {precision!r} is not known; choose fp16 or int8.")
    fp32, target = network_onnx(name, size, "fp32", classes), target_for("jetson")
    stem = fp32.name.removesuffix(".fp32.onnx")
    made = sha256(f"{precision} {target}".encode()).hexdigest()[:8]
    path = cache_dir("networks") / f"{stem}.{target.name}-{made}.{precision}.onnx"
    if path.exists():
        return path
    card = read_card(fp32).with_(precision=precision, target=target.name)
    with atomic_path(path) as temporary, TemporaryDirectory(prefix="kdedge-") as folder:
        if precision == "fp16":
            write_float16(fp32, temporary, target)
        else:
            noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, size, size, 3), np.uint8)
            plain = Path(folder) / "fp32.onnx"
            plain.write_bytes(fp32.read_bytes())
            quantize_int8(plain, temporary, noise, card.preprocess, "minmax", target=target, progress=progress)
        write_card(temporary, card)
    return path
