"""A classifier read from one self-describing ONNX file."""

from collections.abc import Iterable, Iterator, Sequence
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


SMALLEST = np.float32(np.finfo(np.float32).tiny)
ROUNDING = 1e-3
"""How far above 1 a probability may lie: float16 and int8 round."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one image.

    Attributes:
        source: the path as given; ``bytes`` or ``array`` for an image that has none.
        labels: class names, most probable first.
        probabilities: of ``labels``, 0-1, in falling order: the softmax of the logits, or what the file gives if it ends in
            one.
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
        self._check()
        declared = self._given.shape[0]
        self._fixed = declared if isinstance(declared, int) else self.card.batch
        # of several images at once where the file fixes their number: whole runs
        self._chunk = self._fixed * max(1, BATCH // self._fixed) if self._fixed else BATCH

    def _check(self) -> None:
        """Find the tensors that the card speaks of; ModelError if they are not those of the file."""
        card, size = self.card, self.card.preprocess.size
        made = {value.name: value for value in self.session.get_outputs()}
        for role, name in card.outputs.items():
            if name not in made:
                raise ModelError(
                    f"{self.path}: its card says that {name!r} holds the {role}; its outputs are {', '.join(made)}."
                )
        self._given = self.session.get_inputs()[0]
        if (name := card.input.get("name", self._given.name)) != self._given.name:
            raise ModelError(f"{self.path}: its input is {self._given.name!r}, its card speaks of {name!r}.")
        wanted = (card.batch or None, 3, size, size)
        if not _fits(self._given.shape, wanted) or self._given.type != "tensor(float)":
            raise ModelError(
                f"{self.path}: its input is {self._given.type} {self._given.shape}, its card speaks of "
                f"({card.batch or 'B'}, 3, {size}, {size})."
            )
        self._output = card.answer or next(iter(made))
        shape = made[self._output].shape
        if shape and not _fits(shape, (None, len(card.labels))):  # a shape that nobody declared is empty
            raise ModelError(f"{self.path}: its output is {shape}, its card has {len(card.labels)} labels.")

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
        return [found for names, batch in self._batches(images) for found in self._predict(names, batch, top)]

    def embeddings(self, images: Source | Iterable[Source]) -> NDArray[np.float32]:
        """Penultimate activations, to compare or index images by.

        Args:
            images: as for :meth:`predict`.

        Returns:
            float32 (N, D), a row an image, in the order given.

        Raises:
            DataError: as for :meth:`predict`.
            ModelError: the file gives no embedding.
        """
        name = self.card.embedding_output
        if not name:
            raise ModelError(
                f"{self.path}: this file gives no embedding; export the student again with 'kdedge export RUN'."
            )
        parts = [self._run(batch, name) for _, batch in self._batches(images)]
        if parts:
            return np.concatenate([part.reshape(len(part), -1) for part in parts])
        shape = next(value.shape for value in self.session.get_outputs() if value.name == name)
        dim = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 0
        return np.empty((0, dim), np.float32)

    def _batches(self, images: Source | Iterable[Source]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Names of a few images and the network's input made of them, (B, 3, size, size)."""
        names: list[str] = []
        fitted: list[Image] = []
        for source in _sources(images):
            pixels, name = _open(source)
            names.append(name)
            fitted.append(self.card.preprocess.fit(pixels))
            if len(fitted) == self._chunk:
                yield names, self.card.preprocess.normalize(np.stack(fitted))
                names, fitted = [], []
        if fitted:
            yield names, self.card.preprocess.normalize(np.stack(fitted))

    def _predict(self, names: Sequence[str], batch: NDArray[np.float32], top: int) -> list[Prediction]:
        probabilities = self.probabilities(batch)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            Prediction(name, tuple(self.card.labels[i] for i in order), tuple(float(row[i]) for i in order))
            for name, row, order in zip(names, probabilities, best, strict=True)
        ]

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of the classes: those of a network that ends in a softmax as they are, else the softmax of its logits.

        Args:
            batch: float32 (B, 3, size, size), as ``card.preprocess`` makes it.

        Returns:
            float64 (B, C), in the order of ``card.labels``.

        Raises:
            DataError, ModelError: see :meth:`logits`.
        """
        answer = self._answer(batch)
        return answer.astype(np.float64) if self.card.probability_output else softmax(answer)

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        A network that ends in a softmax has hidden its logits; the logarithm of its probabilities takes their place, whose
        softmax is those probabilities again (a probability of 0 counts as the smallest float32 above it).

        Args:
            batch: float32 (B, 3, size, size), as ``card.preprocess`` makes it.

        Returns:
            float32 (B, C), in the order of ``card.labels``.

        Raises:
            DataError: the batch has another shape.
            ModelError: the network gave NaN, infinities, or probabilities outside 0-1.
        """
        answer = self._answer(batch)
        return np.log(np.maximum(answer, SMALLEST)) if self.card.probability_output else answer

    def _answer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output that classifies, (B, C)."""
        size, classes = self.card.preprocess.size, len(self.card.labels)
        if batch.ndim != 4 or batch.shape[1:] != (3, size, size):
            raise DataError(f"expected a batch of shape (B, 3, {size}, {size}), got {batch.shape}.")
        if not len(batch):
            return np.empty((0, classes), np.float32)
        answer = self._run(np.ascontiguousarray(batch, np.float32), self._output)
        if answer.shape != (len(batch), classes):
            raise ModelError(f"{self.path}: it gave {answer.shape} for {len(batch)} images and {classes} labels.")
        if self.card.probability_output and (answer.min() < 0 or answer.max() > 1 + ROUNDING):
            raise ModelError(
                f"{self.path}: its card says that {self._output!r} holds probabilities; it holds {answer.min():.3g} to "
                f"{answer.max():.3g}, give it another card with 'kdedge card attach'."
            )
        return answer

    def _run(self, batch: NDArray[np.float32], output: str) -> NDArray[np.float32]:
        """An output for a batch of any size; a file that fixes the number of images gets the last one again and again."""
        count, step = len(batch), self._fixed or len(batch)
        if missing := -count % step:
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        parts = [
            np.asarray(self.session.run([output], {self._given.name: batch[i : i + step]})[0], np.float32)
            for i in range(0, len(batch), step)
        ]
        values = np.concatenate(parts)[:count] if len(parts) > 1 else parts[0][:count]
        if not np.isfinite(values).all():
            raise ModelError(f"{self.path}: the network gave values that are not finite; export it again.")
        return values


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
