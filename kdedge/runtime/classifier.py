"""A classifier read from one self-describing ONNX file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.errors import DataError, ModelError
from kdedge.preprocess import Image, decode
from kdedge.runtime.session import open_session

__all__ = ["Classifier", "Prediction", "Source", "softmax"]

Source = str | Path | bytes | Image
"""An image: the path of a file, the bytes of one, or a decoded uint8 array of shape (H, W, 3), RGB."""

BATCH = 8
"""Images that go through the network at once: more cost memory and gain no time on a CPU."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one image.

    Attributes:
        source: the path as given; ``bytes`` or ``array`` for an image that has none.
        labels: class names, most probable first.
        probabilities: softmax of the logits for ``labels``, 0-1, in falling order.
    """

    source: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]


class Classifier:
    """Classify images with an exported student; needs neither torch nor onnx.

    Args:
        path: an ONNX file with a kdedge card in its metadata.
        threads: threads of onnxruntime; None uses the cores there are, at most 4.

    Attributes:
        path: the file.
        card: labels, preprocessing and scores of the network.
        session: the ``onnxruntime.InferenceSession``.

    Raises:
        ModelError: the file cannot be loaded, or its input and output are not those its card speaks of.
        CardError: the file has no card.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path = Path(path)
        self.session = open_session(self.path, threads)
        self.card = ModelCard.from_metadata(self.session.get_modelmeta().custom_metadata_map, self.path)
        given, made = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self._input, self._output = given.name, made.name
        self._one_by_one = given.shape[:1] == [1]
        size = self.card.preprocess.size
        if not _fits(given.shape, (None, 3, size, size)) or given.type != "tensor(float)":
            raise ModelError(
                f"{path}: its input is {given.type} {given.shape}, its card speaks of (B, 3, {size}, {size})."
            )
        if not _fits(made.shape, (None, len(self.card.labels))):
            raise ModelError(f"{path}: its output is {made.shape}, its card has {len(self.card.labels)} labels.")

    def predict(self, images: Source | Iterable[Source], top: int = 5) -> list[Prediction]:
        """Classify one image or several.

        Args:
            images: a path, the bytes of a file, an RGB uint8 array (H, W, 3), an array of several (B, H, W, 3), or any
                iterable of these; files are read a few at a time.
            top: how many labels to give for each image; no more than there are classes.

        Returns:
            One prediction an image, in the order given.

        Raises:
            DataError: an image cannot be decoded, or an array is not uint8 of shape (H, W, 3).
        """
        if top < 1:
            raise DataError(f"top is {top}; at least one label must be asked for.")
        found: list[Prediction] = []
        names: list[str] = []
        fitted: list[Image] = []
        for source in _sources(images):
            pixels, name = _open(source)
            names.append(name)
            fitted.append(self.card.preprocess.fit(pixels))
            if len(fitted) == BATCH:
                found += self._predict(names, fitted, top)
                names, fitted = [], []
        return found + self._predict(names, fitted, top) if fitted else found

    def _predict(self, names: Sequence[str], fitted: Sequence[Image], top: int) -> list[Prediction]:
        probabilities = softmax(self.logits(self.card.preprocess.normalize(np.stack(fitted))))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            Prediction(name, tuple(self.card.labels[i] for i in order), tuple(float(row[i]) for i in order))
            for name, row, order in zip(names, probabilities, best, strict=True)
        ]

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Args:
            batch: float32 (B, 3, size, size), as ``card.preprocess`` makes it.

        Returns:
            float32 (B, C), in the order of ``card.labels``.

        Raises:
            DataError: the batch has another shape.
            ModelError: the network gave NaN or infinities.
        """
        size = self.card.preprocess.size
        if batch.ndim != 4 or batch.shape[1:] != (3, size, size):
            raise DataError(f"expected a batch of shape (B, 3, {size}, {size}), got {batch.shape}.")
        batch = np.ascontiguousarray(batch, np.float32)
        if self._one_by_one:
            parts = [self._run(batch[i : i + 1]) for i in range(len(batch))]
            logits = np.concatenate(parts) if parts else np.empty((0, len(self.card.labels)), np.float32)
        else:
            logits = self._run(batch)
        if not np.isfinite(logits).all():
            raise ModelError(f"{self.path}: the network gave values that are not finite; export it again.")
        return logits

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run([self._output], {self._input: batch})
        return np.asarray(logits, np.float32)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Softmax over the last axis, in float64; rows sum to 1 for logits of any size."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=-1, keepdims=True)
    return wide


def _sources(images: Source | Iterable[Source]) -> Iterable[Source]:
    if isinstance(images, str | Path | bytes) or (isinstance(images, np.ndarray) and images.ndim != 4):
        return [images]
    return images


def _open(source: Source) -> tuple[Image, str]:
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise DataError(f"expected a uint8 RGB array of shape (H, W, 3), got {source.dtype} {source.shape}.")
        return source, "array"
    if isinstance(source, str | Path | bytes):
        return decode(source), "bytes" if isinstance(source, bytes) else str(source)
    raise DataError(f"expected a path, bytes or a uint8 RGB array, got {type(source).__name__}.")


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether a declared shape, whose free axes are names or None, admits the wanted one."""
    if len(shape) != len(wanted):
        return False
    return all(have == want for have, want in zip(shape, wanted, strict=True) if isinstance(have, int) and want)
