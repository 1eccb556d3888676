"""PHI-S: a rotation after which every dimension has the same variance, so that one scale standardises all of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from kdedge.training.targets.standardize import require_alive

__all__ = ["PhiS", "equalising_rotation"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class PhiS:
    """``rotation @ (activation - mean) / scale`` (Ranzinger et al., arXiv 2410.01680, section 3: PCA-Hadamard isotropic).

    Every dimension of the targets has variance 1 over the images it was fitted on, as with
    :class:`~kdedge.training.targets.Standardize`, but distances keep their proportions, for all dimensions were divided by one
    number: an error counts as much as it does in the teacher's own space, and the mean squared error is 1 - R2 weighted by
    variance.

    Attributes:
        mean: float32, (D,).
        rotation: float32, (D, D), orthogonal.
        scale: root of the mean variance of the activations.
    """

    mean: NDArray[np.float32]
    rotation: NDArray[np.float32]
    scale: float

    @classmethod
    def fit(cls, activations: NDArray[np.floating]) -> "PhiS":
        """From the activations (N, D) of images that are trained on; N may be below D.

        Raises:
            DataError: the activations are not finite, or none varies.
        """
        values = np.asarray(activations, np.float64)
        require_alive(values)
        mean = values.mean(0)
        centred = values - mean
        variances, vectors = np.linalg.eigh(centred.T @ centred / len(values))
        variances = np.maximum(variances, 0.0)
        rotation = equalising_rotation(variances) @ vectors.T
        return cls(mean.astype(np.float32), rotation.astype(np.float32), float(np.float32(np.sqrt(variances.mean()))))

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """For a checkpoint: a fit on another machine may turn near-equal variances another way."""
        return {"mean": self.mean, "rotation": self.rotation, "scale": np.asarray([self.scale], np.float32)}

    def __call__(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Activations (N, D) to targets (N, D)."""
        centred = (np.asarray(activations, np.float32) - self.mean) / np.float32(self.scale)
        return (centred @ self.rotation.T).astype(np.float32)

    def inverse(self, targets: NDArray[np.floating]) -> NDArray[np.float32]:
        """Targets (N, D) back to activations."""
        turned = np.asarray(targets, np.float32) @ self.rotation
        return (turned * np.float32(self.scale) + self.mean).astype(np.float32)


def equalising_rotation(variances: Matrix) -> Matrix:
    """An orthogonal H (D, D) such that ``H diag(variances) H.T`` has the mean variance everywhere on its diagonal.

    Where D is a power of two it is Sylvester's Hadamard matrix over sqrt(D), as in the paper. Other sizes (1280, 768) have none
    in SciPy; there a random orthogonal matrix, which spreads the variances as a Hadamard matrix does, is corrected by at most
    D - 1 Givens rotations until the diagonal is exactly even (Bendel & Mickey, 1978).
    """
    size = len(variances)
    if size & (size - 1) == 0:
        known: Matrix = np.asarray(hadamard(size), np.float64) / np.sqrt(size)
        return known
    mean = float(variances.mean())
    turn, upper = np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))
    turn = turn * np.sign(np.diag(upper))
    spread = (turn * (variances / mean)) @ turn.T  # the covariance after the turn, in units of the mean variance
    for _ in range(size - 1):
        diagonal = np.diag(spread)
        i, j = int(diagonal.argmin()), int(diagonal.argmax())
        gap, above, across = spread[i, i] - 1.0, spread[j, j] - 1.0, spread[i, j]
        if above - gap < 1e-12:
            break
        tangent = (-across + np.copysign(np.sqrt(across**2 - gap * above), -across)) / above
        cosine = 1.0 / np.sqrt(1.0 + tangent**2)
        pair = cosine * np.array([[1.0, tangent], [-tangent, 1.0]])
        spread[[i, j]] = pair @ spread[[i, j]]
        spread[:, [i, j]] = spread[:, [i, j]] @ pair.T
        turn[[i, j]] = pair @ turn[[i, j]]
    return turn
