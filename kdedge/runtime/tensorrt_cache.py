"""Where TensorRT's engines are kept: an engine fits one file, one onnxruntime, one TensorRT and one GPU.

A wrong engine would be loaded without a word, so the folder's name is made of all four. Versions and the GPU's name are
read from the libraries themselves; neither TensorRT's Python package nor nvidia-smi needs to be there (a Jetson has no
nvidia-smi before JetPack 6).
"""

import ctypes
import re
from pathlib import Path

from kdedge.files import cache_dir, sha256_of

__all__ = ["TRT_BATCH", "engine_folder", "gpu_name", "has_engine", "tensorrt_version"]

TRT_BATCH = 8
"""Images that an engine for any number of images takes at once, at most."""


def engine_folder(model: str | Path, runtime: str) -> Path:
    """Folder of the engine and the timing cache of ``model``, created if absent, below ``$KDEDGE_CACHE/tensorrt``.

    Args:
        model: the ``.onnx`` file; its SHA-256 counts, not its name.
        runtime: version of onnxruntime.
    """
    parts = (sha256_of(model)[:16], f"ort{runtime}", f"trt{tensorrt_version() or 'unknown'}", gpu_name() or "gpu")
    return cache_dir("tensorrt", "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts))


def has_engine(folder: str | Path) -> bool:
    """Whether an engine has been built there."""
    return any(Path(folder).glob("*.engine"))


def tensorrt_version() -> str:
    """``10.3.0`` of the TensorRT library that the loader finds; empty if it finds none."""
    library = _load("libnvinfer.so", "libnvinfer.so.10", "libnvinfer.so.8", "nvinfer_10.dll", "nvinfer.dll")
    if library is None:
        return ""
    number = int(library.getInferLibVersion())
    # 10.3.0 is 100300, but 8.6.1 is 8601: the major number's weight changed with version 10
    major, rest, weight = (
        (number // 10000, number % 10000, 100) if number >= 100000 else (number // 1000, number % 1000, 100)
    )
    return f"{major}.{rest // weight}.{rest % weight}"


def gpu_name() -> str:
    """Name and compute capability of the first CUDA device, ``Orin-8.7``; empty if there is none."""
    cuda = _load("libcuda.so.1", "libcuda.so", "nvcuda.dll")
    if cuda is None or cuda.cuInit(0) != 0:
        return ""
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    if cuda.cuDeviceGet(ctypes.byref(device), 0) != 0 or cuda.cuDeviceGetName(name, len(name), device) != 0:
        return ""
    numbers = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(str(value.value))
    return f"{name.value.decode(errors='replace')}-{'.'.join(numbers)}"


def _load(*names: str) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
