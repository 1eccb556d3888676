"""Calibrations that are kept: a network, images and a preprocessing seen before need not be run again."""

import contextlib
import json
import math
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from kdedge.export.calibrate import Activation, Collected, collect
from kdedge.export.pictures import Pictures
from kdedge.files import atomic_path, cache_dir
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["Cached", "calibrated"]

_FORMAT = 2  # of the files, and of what collect() makes of a network


@dataclass(frozen=True)
class Cached:
    """A calibration and where it came from.

    Attributes:
        key: hexadecimal SHA-256 of all that determines it.
        cached: whether it was read from the cache.
        damaged: whether the cache had a file of this key that could not be used; it has been replaced.
    """

    collected: Collected
    key: str
    cached: bool
    damaged: bool = False


def calibrated(path: Path, pictures: Pictures, preprocess: Preprocess, progress: Progress | None = None) -> Cached:
    """What :func:`kdedge.export.calibrate.collect` makes of these arguments, from the cache where it has it.

    The key covers the network without its card and names, every pixel, the preprocessing and onnxruntime's version.
    A cache that cannot be written is no error.

    Raises:
        ExportError, DataError: as ``collect``.
    """
    key = _key(path, pictures, preprocess)
    file, damaged = None, False
    with contextlib.suppress(OSError):
        file = cache_dir("calibration") / f"{key}.npz"
    if file and file.exists():
        try:
            found = _read(file, key)
        except Exception:  # a damaged archive fails in a dozen ways
            damaged = True
        else:
            if progress:
                progress(found.images, found.images)
            return Cached(found, key, cached=True)
    collected = collect(path, pictures, preprocess, progress)
    with contextlib.suppress(OSError):
        if file:
            _write(file, key, collected)
    return Cached(collected, key, cached=False, damaged=damaged)


def _key(path: Path, pictures: Pictures, preprocess: Preprocess) -> str:
    settings = {
        "format": _FORMAT,
        "onnxruntime": onnxruntime.__version__,
        "network": _network(path),
        "pictures": pictures.digest(),
        "preprocess": preprocess.to_dict(),
    }
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _network(path: Path) -> str:
    """Digest of what a file computes, whatever it says about itself."""
    model = onnx.load(path)
    for field in ("metadata_props", "doc_string", "producer_name", "producer_version", "domain", "model_version"):
        model.ClearField(field)
    for field in ("metadata_props", "doc_string", "name"):
        model.graph.ClearField(field)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _write(file: Path, key: str, collected: Collected) -> None:
    seen = collected.activations.values()
    peak = math.nan if collected.peak_rss_mb is None else collected.peak_rss_mb
    with atomic_path(file) as temporary, temporary.open("wb") as out:
        np.savez_compressed(
            out,
            key=np.array(key),
            images=np.array(collected.images),
            peak_rss_mb=np.array(peak),
            names=np.array(list(collected.activations), dtype=np.str_),
            extremes=np.array([(one.low, one.high) for one in seen], np.float64).reshape(-1, 2),
            typical=np.array([one.typical or (one.low, one.high) for one in seen], np.float64).reshape(-1, 2),
            zeros=np.array([one.zeros for one in seen], np.int64),
            bins=np.array([len(one.counts) for one in seen], np.int64),
            starts=np.array([one.edges[0] for one in seen], np.float64),
            widths=np.array([one.edges[1] - one.edges[0] for one in seen], np.float64),
            counts=np.concatenate([one.counts for one in seen]),
        )


def _read(file: Path, key: str) -> Collected:
    """Raises whatever a damaged file makes NumPy raise, and ValueError where its parts do not fit."""
    with np.load(file, allow_pickle=False) as stored:
        parts = {name: stored[name] for name in stored.files}
    if str(parts["key"]) != key:
        raise ValueError(f"{file} holds another calibration.")
    counts = np.split(parts["counts"], np.cumsum(parts["bins"])[:-1])
    activations = {
        str(name): Activation(
            float(low),
            float(high),
            own,
            start + np.arange(len(own) + 1) * width,
            int(zeros),
            (float(least), float(most)),
        )
        for name, (low, high), (least, most), own, start, width, zeros in zip(
            *(parts[key] for key in ("names", "extremes", "typical")),
            counts,
            *(parts[key] for key in ("starts", "widths", "zeros")),
            strict=True,
        )
    }
    peak = float(parts["peak_rss_mb"])
    return Collected(activations, int(parts["images"]), None if math.isnan(peak) else peak)
