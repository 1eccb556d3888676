"""An image on its way through the server's threads, and what becomes of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdedge.decode import Box, Image
from kdedge.runtime.prediction import Prediction
from kdedge.runtime.server.errors import Problem

__all__ = ["Batch", "Faces", "Finder", "Job"]

Finder = Callable[[Image], Sequence[tuple[Image, Box]]]
"""From an RGB image to its faces: each cut out, uint8 (size, size, 3), and where it was. Several threads call it at a time."""


@dataclass(frozen=True)
class Faces:
    """What was found in an image in which faces were looked for; both may be empty."""

    predictions: tuple[Prediction, ...]
    boxes: tuple[Box, ...]


@dataclass(eq=False)
class Job:
    """An image on its way through the threads.

    Attributes:
        data: the file; emptied once it is decoded.
        result: what was seen, or why there is nothing; None as long as it is on its way.
        dropped: set when nobody waits for it any more; threads pass it over.
        boxes: of the faces in it; None if the whole image is classified.
        parts: what the network said of each face, by its place, or of the whole image, as far as it has; None of one that
            was passed over.
        waited, decoding, inference: seconds it spent in queues, in its decoder, and in the runs of the network it was in.
    """

    source: str
    data: bytes
    top: int
    embedding: bool
    batch: "Batch"
    since: float
    dropped: bool = False
    result: Prediction | Faces | Problem | None = None
    boxes: tuple[Box, ...] | None = None
    parts: dict[int, Prediction | Problem | None] = field(default_factory=dict)
    waited: float = 0.0
    decoding: float = 0.0
    inference: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether no part is missing."""
        return len(self.parts) == (1 if self.boxes is None else len(self.boxes))

    def conclude(self) -> None:
        """Make the result of the parts; of faces none is left out."""
        parts = [self.parts[place] for place in sorted(self.parts)]
        found = tuple(part for part in parts if isinstance(part, Prediction))
        if len(found) < len(parts):
            self.result = next((part for part in parts if isinstance(part, Problem)), None)
        else:
            self.result = found[0] if self.boxes is None else Faces(found, self.boxes)


@dataclass(eq=False)
class Batch:
    """The images of one request, and what is told once all of them have a result."""

    left: int
    done: "asyncio.Future[None]"
    jobs: list[Job] = field(default_factory=list)
