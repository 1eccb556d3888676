"""A classifier of colours that has prototypes, and pictures of colours that it does not know."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.data.folder import class_folders
from kdedge.runtime.calibration import Embedded, calibrate
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.prototypes import PROTOTYPES_KEY, encoded
from tests.conftest import COLORS
from tests.runtime.test_classifier import write_two_outputs

OTHERS = {"yellow": (255, 255, 0), "cyan": (0, 255, 255), "violet": (160, 0, 160)}


def painted(color: tuple[int, int, int], count: int, seed: int = 0, size: int = 16) -> list[NDArray[np.uint8]]:
    """Noisy images of a colour."""
    rng = np.random.default_rng([seed, *color])
    return [
        np.clip(np.asarray(color) + rng.integers(-40, 40, (size, size, 3)), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def write_pictures(folder: Path, color: tuple[int, int, int], count: int, seed: int = 0) -> Path:
    """``painted`` as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(painted(color, count, seed)):
        assert cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    return folder


def write_knowing(path: Path, color_images: Path, **rejection: object) -> Path:
    """The classifier of colours with an embedding and prototypes; ``rejection`` goes into its card."""
    import onnx

    from kdedge.export.graph import read_card, write_card

    write_two_outputs(path)
    data = class_folders(color_images, tuple(COLORS))
    with Classifier(path, 1) as classifier:
        embedded = Embedded(classifier.embeddings(list(data.paths)), np.asarray(data.labels))
    found = calibrate(embedded, None, len(COLORS))
    write_card(path, read_card(path).with_(rejection=rejection))
    model = onnx.load(path)
    model.metadata_props.add(key=PROTOTYPES_KEY, value=encoded(found.prototypes))
    onnx.save(model, path)
    return path
