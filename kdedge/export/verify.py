"""How far one form of a network is from the form before it, measured on the same images."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ExportError
from kdedge.export.outputs import Outputs

__all__ = ["TOLERANCE", "TOLERANCE_FLOAT16", "Parity", "check_float16", "check_fp32", "compare", "parity"]

TOLERANCE = 1e-3
"""Largest error an fp32 file may have, as a share of the largest logit."""

TOLERANCE_FLOAT16 = 3e-2
"""Likewise for float16, whose steps are 1e-3 of a value."""


@dataclass(frozen=True)
class Parity:
    """Agreement of two networks' logits on the same images.

    Attributes:
        images: how many were compared.
        max_abs_error: largest difference of a logit.
        relative_error: ``max_abs_error`` over the largest absolute logit of the reference.
        cosine: mean cosine between the two logit vectors of an image, -1 to 1.
        top1_agreement: share of images given the same first class.
        kl: mean Kullback-Leibler divergence of the softmax outputs, reference first, nats.
        embedding_cosine: mean cosine between the two embeddings of an image; None where one of them has none.
    """

    images: int
    max_abs_error: float
    relative_error: float
    cosine: float
    top1_agreement: float
    kl: float
    embedding_cosine: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def compare(reference: Outputs, found: Outputs) -> Parity:
    """Compare logits and, where both have them, embeddings; raises as :func:`parity` does."""
    result = parity(reference.logits, found.logits)
    if reference.embedding is None or found.embedding is None:
        return result
    p, q = reference.embedding.astype(np.float64), found.embedding.astype(np.float64)
    if p.shape != q.shape:
        raise ExportError(f"embeddings of shape {p.shape} cannot be compared with embeddings of shape {q.shape}.")
    return replace(result, embedding_cosine=float(_cosine(p, q).mean()))


def parity(reference: NDArray[Any], logits: NDArray[Any]) -> Parity:
    """Compare ``logits`` with ``reference``, both (images, classes), in float64.

    Raises:
        ExportError: the shapes differ, there is no image, or a logit is not finite.
    """
    p, q = np.asarray(reference, np.float64), np.asarray(logits, np.float64)
    if p.shape != q.shape or p.ndim != 2 or not p.size:
        raise ExportError(f"logits of shape {p.shape} cannot be compared with logits of shape {q.shape}.")
    for name, values in (("reference", p), ("exported", q)):
        if not np.isfinite(values).all():
            raise ExportError(f"the {name} network's logits are not all finite numbers; it cannot be exported.")
    error, scale = float(np.abs(p - q).max()), float(np.abs(p).max())
    log_p, log_q = _log_softmax(p), _log_softmax(q)
    return Parity(
        images=len(p),
        max_abs_error=error,
        relative_error=error / scale if scale else error,
        cosine=float(_cosine(p, q).mean()),
        top1_agreement=float((p.argmax(1) == q.argmax(1)).mean()),
        kl=max(0.0, float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())),
    )


def check_fp32(found: Parity) -> None:
    """Raise ExportError if an fp32 file differs from its network by more than :data:`TOLERANCE`."""
    if found.relative_error > TOLERANCE:
        raise ExportError(
            f"the fp32 file differs from the network it came from: largest error {found.relative_error:.1e} of the "
            f"largest logit on {found.images} images, at most {TOLERANCE:.0e} is allowed; nothing was written."
        )


def check_float16(found: Parity) -> None:
    """Raise ExportError if a float16 file differs from fp32 by more than :data:`TOLERANCE_FLOAT16`."""
    if found.relative_error > TOLERANCE_FLOAT16:
        raise ExportError(
            f"the float16 file differs from fp32: largest error {found.relative_error:.1e} of the largest logit on "
            f"{found.images} images, at most {TOLERANCE_FLOAT16:.0e} is allowed; nothing was written."
        )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _cosine(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row; where a row is all zeros, 1 if the other is as well, else 0."""
    norms = np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1)
    same = (p == q).all(1).astype(np.float64)
    result: NDArray[np.float64] = np.where(norms > 0, (p * q).sum(1) / np.where(norms > 0, norms, 1.0), same)
    return result
