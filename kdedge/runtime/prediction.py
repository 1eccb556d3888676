"""What a classifier says about one image."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Prediction"]

UNKNOWN = "unknown"
"""The label of an image that is none of the classes."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one image.

    Attributes:
        source: the path as given; ``bytes`` or ``array`` for an image that has none.
        labels: class names, most probable first; also those of an unknown image: the classes it is least unlike.
        probabilities: of ``labels``, 0-1, in falling order: the softmax of the logits, or what the file gives if it ends in
            one.
        unknown: whether ``score`` is below the threshold of the classifier.
        score: how known the image looks, in the unit of the threshold; None without a threshold.
        embedding: float32 (D,), penultimate activations; None unless asked for.
    """

    source: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    unknown: bool = False
    score: float | None = None
    embedding: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The most probable class, or :data:`UNKNOWN`."""
        return UNKNOWN if self.unknown else self.labels[0]

    @property
    def probability(self) -> float:
        """That of the most probable class."""
        return self.probabilities[0]
