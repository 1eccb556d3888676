"""Targets of the regression, made of the teacher's activations (N, D): invertible, so any student can be measured alike."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import RunError
from kdedge.training.targets.phi_s import PhiS
from kdedge.training.targets.standardize import Standardize

__all__ = ["TARGETS", "PhiS", "Standardize", "Targets", "targets_from", "targets_named"]

TARGETS = ("standardize", "phi-s", "raw")


class Targets(Protocol):
    """What a student regresses."""

    def __call__(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Activations (N, D) to targets (N, D)."""
        ...

    def inverse(self, targets: NDArray[np.floating]) -> NDArray[np.float32]:
        """Targets (N, D) back to activations."""
        ...

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """What :func:`targets_from` makes the same targets of."""
        ...


def targets_from(arrays: Mapping[str, NDArray[np.float32]]) -> Targets:
    """Targets from what ``to_arrays`` gave."""
    if "rotation" in arrays:
        return PhiS(arrays["mean"], arrays["rotation"], float(arrays["scale"][0]))
    return Standardize(arrays["mean"], arrays["scale"])


def targets_named(name: str, activations: NDArray[np.floating]) -> Targets:
    """Fit targets to the activations (N, D) of the images that are trained on; ``raw`` leaves activations as they are.

    Raises:
        RunError: no such name.
        DataError: the activations are not finite, or none varies.
    """
    if name == "standardize":
        return Standardize.fit(activations)
    if name == "phi-s":
        return PhiS.fit(activations)
    if name == "raw":
        Standardize.fit(activations)  # refuses what cannot be learned
        return Standardize.identity(activations.shape[1])
    raise RunError(f"unknown targets {name!r}; choose one of {', '.join(TARGETS)}.")
