"""Standardised targets: the teacher's activations, each dimension with mean 0 and variance 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError

__all__ = ["Standardize", "require_alive"]


@dataclass(frozen=True)
class Standardize:
    """``(activation - mean) / scale`` per dimension; both float32, (D,)."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, activations: NDArray[np.floating]) -> "Standardize":
        """From the activations (N, D) of the images that are trained on; a dimension that never varies keeps scale 1.

        Raises:
            DataError: the activations are not finite, or none varies (the teacher sees nothing: wrong preprocessing?).
        """
        values = np.asarray(activations, np.float64)
        alive = require_alive(values)
        mean, scale = values.mean(0), values.std(0)
        return cls(mean.astype(np.float32), np.where(alive, scale, 1.0).astype(np.float32))

    @classmethod
    def identity(cls, dim: int) -> "Standardize":
        """Changes nothing: for concept logits, whose sigmoid is the target itself (the paper's S10)."""
        return cls(np.zeros(dim, np.float32), np.ones(dim, np.float32))

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """For a checkpoint."""
        return {"mean": self.mean, "scale": self.scale}

    def inverse(self, targets: NDArray[np.floating]) -> NDArray[np.float32]:
        """Targets (N, D) back to activations."""
        return (np.asarray(targets, np.float32) * self.scale + self.mean).astype(np.float32)

    def __call__(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Standardise (N, D)."""
        return ((np.asarray(activations, np.float32) - self.mean) / self.scale).astype(np.float32)


def require_alive(activations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which dimensions of activations (N, D) vary by more than rounding does, (D,).

    Raises:
        DataError: the activations are not finite, or none varies.
    """
    if not np.isfinite(activations).all():
        raise DataError("the teacher's activations are not finite; is its preprocessing right?")
    alive: NDArray[np.bool_] = activations.std(0) > 1e-6 * max(1e-12, float(np.abs(activations).max()))
    if not alive.any():
        raise DataError("the teacher gives every image the same activations; is its preprocessing right?")
    return alive
