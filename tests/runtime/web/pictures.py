"""Pictures of every kind that a browser and OpenCV must see alike."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["photograph", "write_pictures"]

EXIF_TURNED = bytes.fromhex("45786966000049492a0008000000010012010300010000000600000000000000")
"""An EXIF block with the orientation 6: to be turned by 90 degrees clockwise."""


def photograph(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft shapes and some noise, (height, width, 3): as compressible as a photograph."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 24), max(2, width // 24), 3), dtype=np.uint8)
    soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(soft + rng.integers(-12, 13, (height, width, 3)), 0, 255).astype(np.uint8)


def write_pictures(folder: Path) -> dict[str, Path]:
    """Files by name. PNG unless the name says otherwise."""
    sizes = {"large": (731, 503), "tall": (61, 400), "whole": (192, 128), "twice": (32, 32), "same": (16, 16)}
    sizes |= {"tiny": (3, 2), "dot": (1, 1), "wide": (300, 13), "small": (15, 9)}
    folder.mkdir(parents=True, exist_ok=True)
    images = {f"{name}.png": photograph(*size, seed) for seed, (name, size) in enumerate(sizes.items())}
    images["grey.png"] = photograph(90, 70)[..., :1]
    alpha = np.linspace(0, 255, 90 * 70).reshape(70, 90, 1).astype(np.uint8)
    images["clear.png"] = np.concatenate([photograph(90, 70), alpha], axis=2)
    images["photo.jpg"] = photograph(400, 300)
    images["photo.webp"] = photograph(200, 150)
    for name, image in images.items():
        assert cv2.imwrite(str(folder / name), image)
    jpeg = (folder / "photo.jpg").read_bytes()
    marked = b"\xff\xe1" + (len(EXIF_TURNED) + 2).to_bytes(2, "big") + EXIF_TURNED
    (folder / "turned.jpg").write_bytes(jpeg[:2] + marked + jpeg[2:])
    return {name: folder / name for name in [*images, "turned.jpg"]}
