"""Which class an image shows, or none: the network's head, its prototypes and a gallery together."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.errors import ModelError
from kdedge.runtime.prototypes import LEAST, Classes, Prototypes, expected, log_ratios_of
from kdedge.runtime.rejection import mixed

if TYPE_CHECKING:
    from kdedge.runtime.gallery import Gallery

__all__ = ["Decider", "decider"]


class Decider:
    """What turns a network's outputs into an answer, where its head alone does not.

    It computes what :meth:`kdedge.runtime.prototypes.Prototypes.judge` does in one product of small matrices, since it runs
    for every image: class means have no part in the directions that are taken out, so these need not be taken out first.

    Attributes:
        labels: those of the network, then those enrolled.
        threshold: least score of a known image; None knows every image.
    """

    def __init__(
        self, prototypes: Prototypes, enrolled: Classes, labels: tuple[str, ...], threshold: float | None
    ) -> None:
        self.labels = labels
        self.threshold = threshold
        self._centre = prototypes.centre
        self._directions = len(prototypes.nuisance)
        self._sharpness = prototypes.sharpness
        self._trained = len(prototypes.counts)
        means = np.concatenate([prototypes.means, np.asarray(enrolled.means, np.float32)]).astype(np.float64)
        self._lengths = np.maximum(np.linalg.norm(means, axis=1), LEAST)
        self._weights, self._variances = expected(np.concatenate([prototypes.counts, enrolled.counts]), prototypes.rho)
        self._matrix = np.ascontiguousarray(np.concatenate([prototypes.nuisance, means.astype(np.float32)]).T)

    def __call__(
        self, probabilities: NDArray[np.float64], embeddings: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Answer for B images.

        Args:
            probabilities: (B, C), of the head.
            embeddings: (B, D).

        Returns:
            Probabilities (B, C + E) in the order of ``labels``, and scores (B,), to be compared with ``threshold``.
        """
        moved = embeddings - self._centre
        products = (moved @ self._matrix).astype(np.float64)
        taken = products[:, : self._directions]
        squares = np.einsum("bd,bd->b", moved, moved) - np.einsum("bk,bk->b", taken, taken)
        whole = np.sqrt(np.maximum(squares, LEAST))[:, None]
        inner = products[:, self._directions :] / whole
        ratios = log_ratios_of(inner, self._lengths**2, self._weights, self._variances)
        scores = inner[np.arange(len(inner)), ratios.argmax(1)] / self._lengths[ratios.argmax(1)]
        if ratios.shape[1] == self._trained:
            return probabilities, scores
        nearest = ratios[:, : self._trained].max(1)
        return mixed(probabilities, nearest, ratios[:, self._trained :], self._sharpness), scores


def decider(
    card: ModelCard, prototypes: Prototypes | None, gallery: "Gallery | None", unknown: str | float, path: object
) -> Decider | None:
    """What decides beside the head; None if the head alone does.

    Args:
        prototypes: those in the model file, if it has any.
        unknown: ``auto`` takes the threshold of the gallery, else that of the card if it may be applied; ``never`` none; a
            number is the threshold itself.
        path: of the model, for messages.

    Raises:
        ModelError: a threshold or a gallery for a file without prototypes, or of another number of classes.
    """
    threshold = _threshold(card, gallery, unknown)
    enrolled = gallery is not None and bool(gallery.classes)
    if threshold is None and not enrolled:
        return None
    own = gallery.base if gallery is not None and gallery.base is not None else prototypes
    if own is None or not card.embedding_output:
        raise ModelError(
            f"{path}: this file has no prototypes of its classes, so it cannot tell what is unknown; export the model again, "
            "or make them with 'kdedge gallery calibrate --known DIR'."
        )
    if len(own.counts) != len(card.labels):
        raise ModelError(f"{path}: it has {len(card.labels)} labels and prototypes of {len(own.counts)} classes.")
    known = gallery.known() if gallery is not None else Classes(np.empty((0, own.dim)), np.empty(0, np.int64))
    names = tuple(gallery.classes) if gallery is not None else ()
    return Decider(own, known, card.labels + names, threshold)


def _threshold(card: ModelCard, gallery: "Gallery | None", unknown: str | float) -> float | None:
    if isinstance(unknown, str):
        if unknown not in ("auto", "never"):
            raise ModelError(f"unknown is {unknown!r}; 'auto', 'never' or a threshold was expected.")
        if unknown == "never":
            return None
        if gallery is not None and gallery.rejection.get("applied"):
            return float(gallery.rejection["threshold"])
        return float(card.rejection["threshold"]) if card.rejection.get("applied") else None
    if not -1.0 <= unknown <= 1.0:  # nan, too
        raise ModelError(f"a threshold for the unknown is a cosine, -1 to 1; {unknown} was given.")
    return float(unknown)
