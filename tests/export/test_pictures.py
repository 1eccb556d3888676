from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kdedge.errors import DataError
from kdedge.export.pictures import Pictures
from kdedge.preprocess import Preprocess, decode

PREPROCESS = Preprocess(24)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eleven noisy PNG images, no two of a size."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        assert cv2.imwrite(str(path), rng.integers(0, 256, (30 + number, 50 - number, 3), np.uint8))
    return paths


def _by_hand(paths: list[Path]) -> NDArray[np.uint8]:
    return np.stack([PREPROCESS.fit(decode(path)) for path in paths])


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_batches_are_the_fitted_images_in_order(files: list[Path], size: int) -> None:
    batches = list(Pictures.from_paths(files, PREPROCESS).batches(size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate(batches), _by_hand(files))


def test_files_and_the_array_of_them_are_the_same_pictures(files: list[Path]) -> None:
    lazy = Pictures.from_paths(files, PREPROCESS)
    whole = Pictures(_by_hand(files), PREPROCESS)
    assert len(lazy) == len(whole) == 11
    assert lazy.digest() == whole.digest()
    np.testing.assert_array_equal(lazy.array(), whole.array())
    np.testing.assert_array_equal(np.concatenate(list(whole.batches(4))), whole.array())


def test_nothing_is_read_before_it_is_needed(files: list[Path], tmp_path: Path) -> None:
    batches = Pictures([*files[:4], tmp_path / "absent.png"], PREPROCESS).batches(2)
    next(batches)
    next(batches)
    with pytest.raises(DataError, match=r"absent\.png"):
        next(batches)


def test_most_takes_evenly_spaced_paths_from_first_to_last(files: list[Path]) -> None:
    np.testing.assert_array_equal(
        Pictures.from_paths(files, PREPROCESS, 3).array(), _by_hand([files[0], files[5], files[10]])
    )
    assert len(Pictures.from_paths(files, PREPROCESS, 11)) == len(Pictures.from_paths(files, PREPROCESS, 500)) == 11
    assert len(Pictures.from_paths([], PREPROCESS, 3)) == 0


def test_no_pictures() -> None:
    none = Pictures([], PREPROCESS)
    assert list(none.batches(4)) == []
    assert none.array().shape == (0, 24, 24, 3)
    assert len(none.digest()) == len(sha256().hexdigest())


def test_digest_tells_pixels_number_and_order_apart(files: list[Path]) -> None:
    pixels = _by_hand(files)
    other = pixels.copy()
    other[3, 2, 1, 0] ^= 1
    found = {Pictures(images, PREPROCESS).digest() for images in (pixels, other, pixels[:-1], pixels[::-1])}
    assert len(found) == 4


@pytest.mark.parametrize(
    "images", [np.zeros((2, 24, 24, 3), np.float32), np.zeros((2, 23, 24, 3), np.uint8), np.zeros((24, 24), np.uint8)]
)
def test_arrays_that_are_no_fitted_images_are_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match=r"\(N, 24, 24, 3\)"):
        Pictures(images, PREPROCESS)
