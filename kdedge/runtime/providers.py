"""Execution providers: which one to ask onnxruntime for, with which options, and which one it really gave.

A list of providers proves nothing: onnxruntime drops one whose libraries are missing and goes on with the CPU, in a log
line at most. So a session is asked afterwards what it was made with.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdedge.errors import ModelError
from kdedge.runtime.tensorrt_cache import TRT_BATCH, engine_folder

__all__ = ["EXECUTION", "PROVIDERS", "Peek", "attempts", "describe", "peek", "provider_of", "with_options"]

EXECUTION = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""Our names and onnxruntime's."""

PROVIDERS = ("auto", *EXECUTION)
"""What ``--provider`` takes."""

_OF = {theirs: ours for ours, theirs in EXECUTION.items()}


@dataclass(frozen=True)
class Peek:
    """What must be known of a file before its session on a GPU is made.

    Attributes:
        name, shape: of its input; free axes are names or None.
        target, precision: as the card has them; empty without one.
    """

    name: str
    shape: tuple[int | str | None, ...]
    target: str = ""
    precision: str = ""


def provider_of(session: Any) -> str:
    """What a session was really made with: ``cpu``, ``cuda``, ``tensorrt``, ``xnnpack``, or onnxruntime's name of another."""
    first = str(session.get_providers()[0])
    return _OF.get(first, first)


def describe(available: Sequence[str]) -> str:
    """The providers of a build that kdedge can use, in our words: ``cpu, cuda``."""
    return ", ".join(_OF[name] for name in reversed(available) if name in _OF) or "none"


def attempts(provider: str, available: Sequence[str], allow_fallback: bool, seen: Peek | None = None) -> list[str]:
    """The providers to try, one after the other.

    ``auto`` takes TensorRT for a file of the target ``jetson``, else CUDA for a float file, else the CPU: CUDA has no int8
    convolutions, so an int8 file made for a CPU runs faster there. It never takes XNNPACK, which must be asked for.

    Args:
        provider: one of :data:`PROVIDERS`.
        available: what ``onnxruntime.get_available_providers()`` gives.
        allow_fallback: whether something else, the CPU in the end, may take the place of what was asked for.
        seen: the file, for ``auto`` where there is a GPU's provider.

    Raises:
        ModelError: the name is unknown, or this build of onnxruntime lacks the provider and must not fall back.
    """
    if provider == "auto":
        gpu = []
        if seen and seen.target == "jetson" and EXECUTION["tensorrt"] in available:
            gpu.append("tensorrt")
        if seen and seen.precision != "int8" and EXECUTION["cuda"] in available:
            gpu.append("cuda")
        return [*gpu, "cpu"]
    if provider not in EXECUTION:
        raise ModelError(f"provider {provider!r} is not known; it is one of {', '.join(PROVIDERS)}.")
    rest = ["cpu"] if allow_fallback and provider != "cpu" else []
    if rest and provider == "tensorrt" and EXECUTION["cuda"] in available:
        rest = ["cuda", "cpu"]
    if EXECUTION[provider] in available:
        return [provider, *rest]
    if rest:
        return rest
    wheel = {"cuda": "install onnxruntime-gpu, ", "tensorrt": "install onnxruntime-gpu and TensorRT, "}.get(
        provider, ""
    )
    raise ModelError(
        f"this onnxruntime has no {provider} (it has {describe(available)}); {wheel}choose another --provider, or let the "
        "CPU take over with --allow-fallback."
    )


def peek(path: Path, onnxruntime: Any) -> Peek:
    """Open a file on the CPU, unoptimised, and read its input and card.

    Raises:
        Exception: whatever onnxruntime raises of a file that it cannot open.
    """
    from kdedge.card import METADATA_KEY  # loads OpenCV, which 'kdedge doctor' must do without

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=[EXECUTION["cpu"]])
    given = session.get_inputs()[0]
    try:
        card = json.loads(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "{}"))
    except ValueError:
        card = {}
    known = card if isinstance(card, dict) else {}
    return Peek(given.name, tuple(given.shape), str(known.get("target", "")), str(known.get("precision", "")))


def with_options(
    provider: str, path: Path, threads: int, onnxruntime: Any, seen: Peek | None
) -> list[tuple[str, dict[str, str]]]:
    """The providers of one session with their options, the CPU last; ready for ``InferenceSession(providers=...)``.

    The engine and timing caches of TensorRT lie in :func:`kdedge.runtime.tensorrt_cache.engine_folder`.
    """
    cpu: tuple[str, dict[str, str]] = (EXECUTION["cpu"], {})
    if provider == "cpu":
        return [cpu]
    if provider == "xnnpack":  # it has a pool of its own, onnxruntime's must not compete
        return [(EXECUTION["xnnpack"], {"intra_op_num_threads": str(threads)}), cpu]
    if preload := getattr(onnxruntime, "preload_dlls", None):  # the CUDA libraries of NVIDIA's wheels, if there are any
        with redirect_stdout(sys.stderr):
            preload()
    cuda = (EXECUTION["cuda"], {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"})
    if provider == "cuda":
        return [cuda, cpu]
    assert seen is not None
    return [(EXECUTION["tensorrt"], _tensorrt(path, onnxruntime, seen)), cuda, cpu]


def _tensorrt(path: Path, onnxruntime: Any, seen: Peek) -> dict[str, str]:
    folder = str(engine_folder(path, onnxruntime.__version__))
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_int8_enable": "1" if seen.precision == "int8" else "0",
        "trt_fp16_enable": "1" if seen.precision in ("int8", "fp16") else "0",
    }
    free = [not isinstance(axis, int) for axis in seen.shape]
    if free and free[0] and not any(free[1:]):  # without a profile every new number of images builds another engine
        rest = "x".join(str(axis) for axis in seen.shape[1:])
        for key, images in (("min", 1), ("opt", 1), ("max", TRT_BATCH)):
            options[f"trt_profile_{key}_shapes"] = f"{seen.name}:{images}x{rest}"
    return options
