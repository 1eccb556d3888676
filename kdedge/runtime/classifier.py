"""A classifier read from one self-describing ONNX file."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.preprocess import Image
from kdedge.runtime.given import Source, fit_source, one_by_one
from kdedge.runtime.network import Network
from kdedge.runtime.prediction import Prediction
from kdedge.runtime.ranking import predictions, softmax

if TYPE_CHECKING:
    from kdedge.runtime.decide import Decider
    from kdedge.runtime.gallery import Gallery
    from kdedge.runtime.prototypes import Prototypes

__all__ = ["Classifier", "Prediction", "Source"]

BATCH = 8
"""Images that go through the network at once: more cost memory and gain no time on a CPU."""

SMALLEST = np.float32(np.finfo(np.float32).tiny)


class Classifier:
    """Classify images with an exported student; needs neither torch nor onnx.

    Several threads may use one classifier at the same time. In a ``with`` block it is closed at the end, which frees the
    memory of the network.

    Args:
        path: an ONNX file with a kdedge card in its metadata; or what ``--model`` takes: a run directory, a name of the zoo.
        threads: threads of onnxruntime; None uses the cores there are, at most 4.
        provider: ``auto``, ``cpu``, ``cuda``, ``tensorrt`` or ``xnnpack``; see :func:`kdedge.runtime.providers.attempts`.
        allow_fallback: whether the CPU may take over where ``provider`` cannot be had, which is an error otherwise.
        gallery: classes that were enrolled for this file; ``auto`` takes what ``kdedge enroll`` made for it, if anything.
        unknown: below which score an image is unknown: ``auto`` takes the threshold of the gallery, else that of the card
            where it may be applied; ``never``, or a number.
        say: told in one line what takes long, and what took over; None keeps silent.

    Attributes:
        path: the file.
        card: labels, preprocessing and scores of the network.
        provider: what it was really made with: ``cpu``, ``cuda``, ``tensorrt`` or ``xnnpack``.
        providers: onnxruntime's names of these, in order of preference.
        labels: those of the card, then the enrolled ones: all that :meth:`predict` may answer.

    Raises:
        ModelError: the file cannot be loaded, its input and output are not those its card speaks of, or the provider cannot
            be had.
        CardError: the file has no card.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        *,
        provider: str = "auto",
        allow_fallback: bool = False,
        gallery: "Gallery | Literal['auto'] | None" = None,
        unknown: str | float = "auto",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            from kdedge.runtime.models import named_model  # whoever gives a file does without it

            self.path = named_model(self.path)
        self._network = Network(self.path, threads, provider=provider, allow_fallback=allow_fallback, say=say)
        self.card = self._network.card
        self.provider = self._network.provider
        self.providers = tuple(self.session.get_providers())
        if gallery == "auto":
            from kdedge.runtime.gallery_file import find_gallery

            gallery = (find_gallery(self.path) or (None,))[0]
        self.gallery = gallery
        self._decider = self._decides(unknown)
        fixed = self._network.fixed
        # of several images at once where the file fixes their number: whole runs
        self._chunk = fixed * max(1, BATCH // fixed) if fixed else BATCH
        self._scratch = threading.local()

    def __enter__(self) -> "Classifier":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the network; whoever classifies afterwards gets a ModelError. Closing twice does no harm."""
        self.session = None
        self._scratch = threading.local()

    @property
    def session(self) -> Any:
        """The ``onnxruntime.InferenceSession``; None once closed."""
        return self._network.session

    @session.setter
    def session(self, session: Any) -> None:
        self._network.session = session

    @property
    def labels(self) -> tuple[str, ...]:
        """All classes an answer may name."""
        return self._decider.labels if self._decider else self.card.labels

    @property
    def threshold(self) -> float | None:
        """The score below which an image is unknown; None where nothing is."""
        return self._decider.threshold if self._decider else None

    @property
    def prototypes(self) -> "Prototypes | None":
        """Those of the trained classes that the file holds; None in files that hold none."""
        from kdedge.runtime.prototypes import PROTOTYPES_KEY, decoded

        text = self.session.get_modelmeta().custom_metadata_map.get(PROTOTYPES_KEY)
        return decoded(text, str(self.path)) if text else None

    def _decides(self, unknown: str | float) -> "Decider | None":
        """What decides beside the head; nothing is loaded, decoded or hashed where the head alone does."""
        if self.gallery is None and (
            unknown == "never" or (unknown == "auto" and not self.card.rejection.get("applied"))
        ):
            return None
        from kdedge.runtime.decide import decider

        if self.gallery is not None:
            from kdedge.files import sha256_of

            self.gallery.check(sha256_of(self.path), self.path)
        return decider(self.card, self.prototypes, self.gallery, unknown, self.path)

    def predict(self, images: Source | Iterable[Source], top: int = 5, *, embedding: bool = False) -> list[Prediction]:
        """Classify one image or several.

        Args:
            images: a path, the bytes of a file, an RGB uint8 array (H, W, 3), an array of several (B, H, W, 3), or any
                iterable of these; files are read a few at a time.
            top: how many labels to give for each image; no more than there are classes.
            embedding: whether to give the penultimate activations, too.

        Returns:
            One prediction an image, in the order given.

        Raises:
            DataError: an image cannot be decoded, or an array is not uint8 of shape (H, W, 3).
            ModelError: embeddings are asked of a file that gives none, or the classifier is closed.
        """
        return [
            found
            for names, fitted in self._batches(images)
            for found in self.predict_fitted(fitted, names, top, embedding=embedding)
        ]

    def load(self, source: Source) -> Image:
        """Decode an image and bring it to the network's size: uint8 (size, size, 3), RGB.

        A JPEG that is much larger is decoded at a reduced scale. What takes long lets other threads run meanwhile.

        Raises:
            DataError: see :meth:`predict`.
        """
        return fit_source(source, self.card.preprocess)[0]

    def predict_fitted(
        self,
        fitted: Sequence[Image] | NDArray[np.uint8],
        names: Sequence[str] | None = None,
        top: int = 5,
        *,
        embedding: bool = False,
    ) -> list[Prediction]:
        """Classify images that :meth:`load` made, all in one run.

        Args:
            fitted: B images, uint8 (size, size, 3), RGB; or an array of them.
            names: what to call them, ``array`` by default.
            top, embedding: see :meth:`predict`.
        """
        if top < 1:
            raise DataError(f"top is {top}; at least one label must be asked for.")
        if not len(fitted):
            return []
        batch = self.card.preprocess.normalize(fitted, self._room(len(fitted)))
        decider = self._decider
        answer, *rest = self._network.classify(batch, *([self._network.embedding] if embedding or decider else []))
        probabilities = answer.astype(np.float64) if self.card.probability_output else softmax(answer)
        vectors = rest[0].reshape(len(fitted), -1) if rest else None
        scores = None
        if decider and vectors is not None:
            probabilities, scores = decider(probabilities, vectors)
        return predictions(
            names or ["array"] * len(fitted),
            self.labels,
            probabilities,
            top,
            scores=scores,
            threshold=self.threshold,
            embeddings=vectors if embedding else None,
        )

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
        name = self._network.embedding
        parts = [
            self._network.run(self.card.preprocess.normalize(fitted, self._room(len(fitted))), [name])[0]
            for _, fitted in self._batches(images)
        ]
        if parts:
            return np.concatenate([part.reshape(len(part), -1) for part in parts])
        shape = next(value.shape for value in self.session.get_outputs() if value.name == name)
        dim = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 0
        return np.empty((0, dim), np.float32)

    def _batches(self, images: Source | Iterable[Source]) -> Iterator[tuple[list[str], list[Image]]]:
        """Names of a few images, and these at the network's size."""
        names: list[str] = []
        few: list[Image] = []
        for source in one_by_one(images):
            image, name = fit_source(source, self.card.preprocess)
            names.append(name)
            few.append(image)
            if len(few) == self._chunk:
                yield names, few
                names, few = [], []
        if few:
            yield names, few

    def _room(self, images: int) -> NDArray[np.float32]:
        """Memory of this thread for the network's input, used again and again: (images, 3, size, size)."""
        room: NDArray[np.float32] | None = getattr(self._scratch, "room", None)
        if room is None or len(room) < images:
            size = self.card.preprocess.size
            room = self._scratch.room = np.empty((images, 3, size, size), np.float32)
        return room[:images]

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
        return self._network.classify(np.ascontiguousarray(batch, np.float32))[0]
