"""Small images for the paper's experiments."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def silent(line: str) -> None:
    """Say nothing."""


@pytest.fixture
def spots(tmp_path: Path) -> Callable[..., Path]:
    """Class folders of noisy plain colours: ``make(images=10, under="")``."""

    def make(images: int = 10, under: str = "", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for name, color in (("blue", (0, 0, 255)), ("green", (0, 255, 0)), ("red", (255, 0, 0))):
            folder = tmp_path / "spots" / under / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = np.clip(np.asarray(color) + rng.integers(-60, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
                assert cv2.imwrite(str(folder / f"{number}.png"), pixels[..., ::-1])
        return tmp_path / "spots"

    return make
