"""Classes in the space of a network's embeddings: what their images have in common.

An embedding is centred, freed of the directions in which images of one class differ most (nuisance attribute projection:
Solomonoff, Campbell and Boardman, ICASSP 2005), and brought to length 1. Of a class only the mean of such vectors is kept, and
of how many (Snell, Swersky and Zemel, "Prototypical Networks", NeurIPS 2017); one image is enough for a class.

How well a class explains an embedding is a ratio of likelihoods in the two-covariance model (Ioffe, "Probabilistic Linear
Discriminant Analysis", ECCV 2006) with one number, the share ``rho`` of the variance that lies between classes. So a mean of
one image and a mean of twenty can be compared, which cosines cannot: the former is always farther away.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError, ModelError

__all__ = [
    "LEAST",
    "PROTOTYPES_KEY",
    "Classes",
    "Judged",
    "Prototypes",
    "class_means",
    "decoded",
    "encoded",
    "expected",
    "fit_prototypes",
    "log_ratios",
    "log_ratios_of",
    "main_directions",
    "unit_rows",
]

PROTOTYPES_KEY = "kdedge.prototypes"
"""Where in an ONNX file's metadata the prototypes of its classes lie: beside the card, which people read."""

FORMAT = 1
LEAST = 1e-12

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Prototypes:
    """The trained classes of a network, and the way from its embeddings to them.

    Attributes:
        centre: float32 (D,), mean embedding of images of the classes.
        nuisance: float32 (K, D), orthonormal rows: what is taken out of an embedding.
        means: float32 (C, D), mean of the unit vectors of each class, in the order of the labels.
        counts: int64 (C,), of how many images.
        rho: mean cosine between two images of a class that nothing here was fitted on, 0-1.
        sharpness: what log ratios are multiplied by before a softmax makes probabilities of them, above 0.
    """

    centre: NDArray[np.float32]
    nuisance: NDArray[np.float32]
    means: NDArray[np.float32]
    counts: NDArray[np.int64]
    rho: float = 0.5
    sharpness: float = 10.0

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.centre.shape[0])

    def units(self, embeddings: Vectors) -> NDArray[np.float64]:
        """Embeddings (N, D) as unit vectors (N, D); one that lies on the centre becomes zeros.

        Raises:
            DataError: embeddings of another length.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise DataError(f"expected embeddings of shape (N, {self.dim}), got {embeddings.shape}.")
        moved = np.asarray(embeddings, np.float64) - self.centre
        moved -= (moved @ self.nuisance.T.astype(np.float64)) @ self.nuisance
        return unit_rows(moved)

    def judge(self, units: NDArray[np.float64], more: "Classes | None" = None) -> "Judged":
        """Compare unit vectors (N, D) with the trained classes, and with ``more`` after them."""
        known = Classes(self.means, self.counts)
        if more is not None and len(more.counts):
            known = Classes(np.concatenate([known.means, more.means]), np.concatenate([known.counts, more.counts]))
        ratios = log_ratios(units, known.means, known.counts, self.rho)
        best = ratios.argmax(1) if len(known.counts) else np.zeros(len(units), np.int64)
        directions = unit_rows(known.means)[best]
        return Judged(ratios, np.einsum("nd,nd->n", units, directions))


@dataclass(frozen=True)
class Classes:
    """Means (K, D) of the unit vectors of K classes, and of how many each is the mean, (K,)."""

    means: Vectors
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """What was found of N unit vectors.

    Attributes:
        ratios: (N, K) how well each class explains it, see :func:`log_ratios`.
        scores: (N,) cosine, -1 to 1, with the class that explains it best: what a threshold is compared with, since it does
            not grow when a class is known from few images.
    """

    ratios: NDArray[np.float64]
    scores: NDArray[np.float64]


def log_ratios(units: Vectors, means: Vectors, counts: NDArray[np.integer[Any]], rho: float) -> NDArray[np.float64]:
    """Log likelihood of unit vectors as of a class, less that as of anything, a dimension: above 0 speaks for the class.

    A class that n images with the mean m are known of is expected at a m, a = n rho / (1 + (n - 1) rho), with the variance
    v = 1 - rho a of each dimension, where the whole has 1.

    Args:
        units: (N, D), each of length 1; one of length 0 is judged as if it stood at a right angle to all.
        means: (K, D), means of unit vectors, not of length 1.
        counts: (K,), of how many.
        rho: 0-1, both excluded.

    Returns:
        (N, K)
    """
    wide, centres = np.asarray(units, np.float64), np.asarray(means, np.float64)
    return log_ratios_of(wide @ centres.T, np.einsum("kd,kd->k", centres, centres), *expected(counts, rho))


def expected(counts: NDArray[np.integer[Any]], rho: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What means of ``counts`` (K,) images are multiplied by, and the variance around that: a and v, (K,) each."""
    weights = counts * rho / (1 + (counts - 1) * rho)
    return weights, 1 - rho * weights


def log_ratios_of(
    products: NDArray[np.float64],
    squares: NDArray[np.float64],
    weights: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> NDArray[np.float64]:
    """:func:`log_ratios` from inner products (N, K) of unit vectors with the means, and squared lengths (K,) of these."""
    away = 1 - 2 * weights * products + weights**2 * squares
    result: NDArray[np.float64] = (1 - np.log(variances) - away / variances) / 2
    return result


def unit_rows(vectors: Vectors) -> NDArray[np.float64]:
    """Rows (N, D) brought to length 1; rows of zeros stay."""
    wide = np.asarray(vectors, np.float64)
    result: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), LEAST)
    return result


def fit_prototypes(
    embeddings: Vectors, labels: NDArray[np.integer[Any]], classes: int, nuisance: NDArray[np.float64]
) -> Prototypes:
    """The prototypes of classes that images are given of, ``rho`` and ``sharpness`` still open.

    Args:
        embeddings: (N, D).
        labels: (N,), 0 to ``classes`` - 1, each occurring.
        nuisance: (K, D), what is taken out, see :func:`main_directions`.
    """
    wide = np.asarray(embeddings, np.float64)
    none = np.empty((0, wide.shape[1]), np.float32)
    counts = np.bincount(labels, minlength=classes).astype(np.int64)
    bare = Prototypes(wide.mean(0).astype(np.float32), nuisance.astype(np.float32), none, counts)
    return replace(bare, means=class_means(bare.units(wide), labels, classes).astype(np.float32))


def class_means(vectors: Vectors, labels: NDArray[np.integer[Any]], classes: int) -> NDArray[np.float64]:
    """Mean of the vectors (N, D) of each class: (C, D); zeros for one that has none."""
    sums = np.zeros((classes, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    counts = np.bincount(labels, minlength=classes)
    result: NDArray[np.float64] = sums / np.maximum(counts, 1)[:, None]
    return result


def main_directions(
    embeddings: Vectors, labels: NDArray[np.integer[Any]], classes: int, most: int
) -> NDArray[np.float64]:
    """The directions in which images of one class differ most: orthonormal, (K, D), the main one first.

    Args:
        most: K, fewer where they do not differ in as many.
    """
    wide = np.asarray(embeddings, np.float64)
    residuals = wide - class_means(wide, labels, classes)[labels]
    few = len(residuals) < residuals.shape[1]  # the smaller of the two matrices has the same eigenvalues
    values, vectors = np.linalg.eigh(residuals @ residuals.T if few else residuals.T @ residuals)
    rank = int((values > 1e-9 * max(values[-1], LEAST)).sum())
    leading = vectors[:, ::-1][:, : min(most, rank)]
    return unit_rows((residuals.T @ leading if few else leading).T)


def encoded(prototypes: Prototypes) -> str:
    """As JSON small enough for a model's metadata: a byte for each number of a vector, two for each of the centre.

    A vector in steps of 1/127 of its largest entry is turned by less than half a degree.
    """
    value = {
        "format": FORMAT,
        "dim": prototypes.dim,
        "rho": prototypes.rho,
        "sharpness": prototypes.sharpness,
        "counts": prototypes.counts.tolist(),
        "centre": base64.b64encode(prototypes.centre.astype("<f2").tobytes()).decode(),
        "nuisance": _packed(prototypes.nuisance),
        "means": _packed(prototypes.means),
    }
    return json.dumps(value, allow_nan=False)


def decoded(text: str, source: str) -> Prototypes:
    """Read what :func:`encoded` wrote; ModelError, naming ``source``, on anything else."""
    try:
        value: Mapping[str, Any] = json.loads(text)
        if value["format"] != FORMAT:
            raise ModelError(
                f"{source}: prototypes of format {FORMAT} were expected, found {value['format']!r}; update kdedge."
            )
        dim, rho, sharpness = int(value["dim"]), float(value["rho"]), float(value["sharpness"])
        counts = np.asarray(value["counts"], np.int64)
        centre = np.frombuffer(base64.b64decode(value["centre"], validate=True), "<f2").astype(np.float32)
        nuisance, means = (_unpacked(value[key], dim) for key in ("nuisance", "means"))
        right = centre.shape == (dim,) and counts.shape == (len(means),) and bool((counts > 0).all())
        if not right or not np.isfinite(centre).all() or not 0 < rho < 1 or not 0 < sharpness < np.inf:
            raise ValueError("numbers that cannot be")
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise ModelError(f"{source}: its prototypes are garbled ({error}); export the model again.") from error
    square, triangle = np.linalg.qr(nuisance.T.astype(np.float64))  # rounding left them a little askew
    nuisance = np.asarray((square * np.sign(np.diag(triangle))).T, np.float32)
    return Prototypes(
        centre, nuisance, np.asarray(means - (means @ nuisance.T) @ nuisance, np.float32), counts, rho, sharpness
    )


def _packed(rows: NDArray[np.float32]) -> dict[str, str]:
    steps = (np.abs(rows).max(1, initial=0.0) / 127).astype("<f4")
    whole = np.rint(rows / np.maximum(steps, LEAST)[:, None]).astype(np.int8)
    return {name: base64.b64encode(part.tobytes()).decode() for name, part in (("steps", steps), ("rows", whole))}


def _unpacked(packed: Mapping[str, str], dim: int) -> NDArray[np.float32]:
    steps = np.frombuffer(base64.b64decode(packed["steps"], validate=True), "<f4")
    rows = np.frombuffer(base64.b64decode(packed["rows"], validate=True), np.int8).reshape(len(steps), dim)
    if not np.isfinite(steps).all():
        raise ValueError("numbers that cannot be")
    result: NDArray[np.float32] = (rows * steps[:, None]).astype(np.float32)
    return result
