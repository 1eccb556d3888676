"""What an fp32 network's activations look like on the calibration images, in memory that does not grow with them.

The network runs once over the images; :func:`kdedge.export.ranges.choose_range` works on what was collected.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from kdedge.errors import ExportError
from kdedge.export.histogram import Activation, Histogram
from kdedge.export.pictures import Pictures
from kdedge.export.session import cpu_session
from kdedge.preprocess import Preprocess
from kdedge.progress import Progress

__all__ = ["Activation", "Collected", "collect"]

_BATCH_PIXELS = 8 * 112 * 112  # the activations of a batch are in memory at once
_MOST_BATCH = 32
_VALUES = 4096


@dataclass(frozen=True)
class Collected:
    """What was seen of a network.

    Attributes:
        activations: of the float tensors that are given or computed, by name.
        images: how many were seen.
        peak_rss_mb: highest resident memory of the process meanwhile, 10^6 bytes (where the system cannot tell that,
            since the process started); None if unknown.
    """

    activations: dict[str, Activation]
    images: int
    peak_rss_mb: float | None


def collect(
    path: Path, pictures: Pictures | NDArray[np.uint8], preprocess: Preprocess, progress: Progress | None = None
) -> Collected:
    """Run the network on the images and keep a histogram of each of its activations.

    Extremes are exact. Of a tensor's values 4,096 an image are counted, drawn evenly over the tensor, since counting
    all takes longer than computing them; they are the same whatever the size of a batch. Memory holds the activations
    of one batch and the histograms, however many images there are.

    Args:
        pictures: an array holds fitted RGB images, uint8, (N, size, size, 3).

    Raises:
        ExportError: no images, or the network computes what is no finite number; the tensor is named.
        DataError: an image cannot be decoded.
    """
    pictures = pictures if isinstance(pictures, Pictures) else Pictures(pictures, preprocess)
    if not len(pictures):
        raise ExportError("calibration needs images, none were given.")
    names = _activations(onnx.shape_inference.infer_shapes(onnx.load(path)))
    histograms = [Histogram(f"tensor {name}") for name in names]
    random, done = np.random.default_rng(0), 0
    with TemporaryDirectory(prefix="kdedge-") as folder, _peak_memory() as peak:
        session = cpu_session(_with_outputs(path, names, Path(folder) / "open.onnx"))
        entry = session.get_inputs()[0]
        fixed = entry.shape[0] if isinstance(entry.shape[0], int) else 0
        for batch in pictures.batches(fixed or max(1, min(_MOST_BATCH, _BATCH_PIXELS // preprocess.size**2))):
            missing = max(0, fixed - len(batch))
            pixels = preprocess.normalize(np.concatenate([batch, *[batch[-1:]] * missing]) if missing else batch)
            _count(histograms, session.run(names, {entry.name: pixels}), len(batch), len(pixels), random)
            done += len(batch)
            if progress:
                progress(done, len(pictures))
    seen = {name: histogram.seen() for name, histogram in zip(names, histograms, strict=True)}
    return Collected(seen, done, next(iter(peak), None))


def _count(
    histograms: list[Histogram],
    outputs: list[NDArray[np.float32]],
    images: int,
    batch: int,
    random: np.random.Generator,
) -> None:
    """Add the first ``images`` of a batch to the histograms."""
    shares = (np.arange(_VALUES) + random.random((images, _VALUES))) / _VALUES
    places: dict[tuple[int, ...], NDArray[np.int64]] = {}
    for histogram, values in zip(histograms, outputs, strict=True):
        if not values.size:
            continue
        whole = values.size % batch != 0  # not one part an image
        rows = values.reshape(1, -1) if whole else values.reshape(batch, -1)[:images]
        lows, highs = rows.min(1), rows.max(1)
        histogram.cover(float(lows.min()), float(highs.max()))
        for low, high in zip(lows, highs, strict=True):
            histogram.image(float(low), float(high))
        if rows.shape[1] > _VALUES:
            if rows.shape not in places:
                inside = (shares[: len(rows)] * rows.shape[1]).astype(np.int64)
                inside += np.arange(len(rows))[:, None] * rows.shape[1]
                places[rows.shape] = np.minimum(inside, rows.size - 1)
            rows = rows.reshape(-1)[places[rows.shape]]
        histogram.add(rows)


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


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """A list that holds the highest resident memory of the block, in 10^6 bytes, once it has ended; empty if unknown."""
    found: list[float] = []
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux forgets the highest so far
    yield found
    if peak := _highest_resident():
        found.append(peak / 1e6)


def _highest_resident() -> int | None:
    """Bytes; None if unknown."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
