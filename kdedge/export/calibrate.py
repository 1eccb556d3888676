"""Which range of each activation the 256 steps of an 8-bit integer should cover.

The fp32 network runs once over the calibration images; every method then works on what was collected.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from kdedge.export.session import cpu_session
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["METHODS", "Activation", "Calibration", "Range", "choose_range", "collect"]

Calibration = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Calibration, ...] = ("minmax", "percentile", "mse")

Range = tuple[float, float]

_BATCH_PIXELS = 16 * 112 * 112  # the activations of a batch are in memory at once
_SAMPLES = 1 << 18
_BINS = 2048
_LEVELS = 256
_OUTSIDE = 1e-4
_SHRINK = np.concatenate([np.linspace(1.0, 0.5, 11), 0.5 * 0.8 ** np.arange(1, 9)])


@dataclass(frozen=True)
class Activation:
    """What was seen of one tensor on all calibration images.

    Attributes:
        low, high: exact extremes.
        values: float32, a random sample of about 260 thousand values.
    """

    low: float
    high: float
    values: NDArray[np.float32]


def collect(
    path: Path, images: NDArray[np.uint8], preprocess: Preprocess, progress: Progress | None = None
) -> dict[str, Activation]:
    """Run the network on fitted RGB images (N, size, size, 3) and keep the statistics of its float activations by name.

    Memory holds the activations of one batch and the samples, however many images there are.
    """
    names = _activations(onnx.load(path))
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    random = np.random.default_rng(0)
    batch = max(1, _BATCH_PIXELS // preprocess.size**2)
    each = max(64, _SAMPLES // len(images))
    with TemporaryDirectory(prefix="kdedge-") as folder:
        session = cpu_session(_with_outputs(path, names, Path(folder) / "open.onnx"))
        entry = session.get_inputs()[0].name
        for start in range(0, len(images), batch):
            pixels = preprocess.normalize(images[start : start + batch])
            for name, values in zip(names, session.run(names, {entry: pixels}), strict=True):
                flat = values.reshape(-1)
                lows[name], highs[name] = min(lows[name], float(flat.min())), max(highs[name], float(flat.max()))
                wanted = each * len(pixels)
                samples[name].append(flat[random.integers(0, flat.size, wanted)] if flat.size > wanted else flat.copy())
            if progress:
                progress(min(start + batch, len(images)), len(images))
    return {name: Activation(lows[name], highs[name], np.concatenate(samples[name])) for name in names}


def _activations(model: onnx.ModelProto) -> list[str]:
    """Float tensors that are computed or given, in a fixed order."""
    graph = model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    return [name for name in names if kinds.get(name) == TensorProto.FLOAT and name not in constants]


def _with_outputs(path: Path, names: list[str], out: Path) -> Path:
    model = onnx.load(path)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in present
    )
    onnx.save(model, out)
    return out


def choose_range(seen: Activation, method: Calibration) -> Range:
    """The range to quantise, always with zero in it.

    ``minmax`` covers all that was seen; ``percentile`` all but one value in ten thousand; ``mse`` minimises the mean
    squared error of rounding and clipping together (Banner et al. 2019, by search instead of a fitted distribution).
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if method == "minmax" or high - low <= 0.0:
        return low, high
    if method == "percentile":
        inner = np.quantile(seen.values, [_OUTSIDE / 2, 1 - _OUTSIDE / 2])
        return max(low, min(float(inner[0]), 0.0)), min(high, max(float(inner[1]), 0.0))
    counts, edges = np.histogram(seen.values, _BINS, (low, high))
    return _least_squares(counts.astype(np.float64), edges)


def _least_squares(counts: NDArray[np.float64], edges: NDArray[np.floating[Any]]) -> Range:
    """Shrink either side by itself; of equally good ranges the widest."""
    low, high = float(edges[0]), float(edges[-1])
    centres = np.asarray(edges[:-1] + edges[1:], np.float64) / 2
    best, found = (low, high), np.inf
    for left in low * _SHRINK if low < 0 else (0.0,):
        for right in high * _SHRINK if high > 0 else (0.0,):
            if (value := _squared_error(counts, centres, float(left), float(right))) < found:
                best, found = (float(left), float(right)), value
    return best


def _squared_error(counts: NDArray[np.float64], centres: NDArray[np.float64], low: float, high: float) -> float:
    """Mean squared error of the values once they are rounded to 256 levels from ``low`` to ``high``."""
    step = (high - low) / (_LEVELS - 1)
    rounded = low + np.rint((np.clip(centres, low, high) - low) / step) * step
    return float(counts @ (centres - rounded) ** 2 / counts.sum())
