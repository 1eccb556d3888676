"""Answers written on copies."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.errors import RunError
from kdedge.runtime import annotate
from kdedge.runtime.annotate import annotated, drawable, place_for, write_image


@pytest.mark.parametrize("size", [(16, 16), (40, 2000), (300, 200), (1200, 1600)])
def test_letters_on_images_of_any_size(size: tuple[int, int]) -> None:
    plain = np.full((*size, 3), 128, np.uint8)
    drawn = annotated(plain, ["a label of some length 99.9%", "another 0.1%"])
    times = drawn.shape[0] // size[0]
    assert drawn.shape == (size[0] * times, size[1] * times, 3)
    assert min(drawn.shape[:2]) >= 240 or times == 1
    assert (drawn == 255).all(-1).any(), "white letters"
    assert (drawn[: size[0] * times // 4] == 128).all(), "the picture above them is untouched"
    assert (plain == 128).all()
    assert np.array_equal(annotated(plain, []), plain.repeat(times, 0).repeat(times, 1))


def test_two_labels_look_different() -> None:
    plain = np.full((240, 320, 3), 128, np.uint8)
    texts = ["Grün", "Grun", "猫", "犬", "x" * 300, "x" * 300 + "y"]
    drawn = [annotated(plain, [text]).tobytes() for text in texts]
    assert len(set(drawn[:4])) == (4 if annotate.UNICODE else 3)


def test_letters_of_an_older_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "UNICODE", False)
    assert [drawable(text) for text in ("Grün", "Ærø", "猫", "a\nb")] == ["Grun", "AEro", "U+732B", "a b"]
    drawn = annotated(np.full((240, 320, 3), 128, np.uint8), ["猫 100%", "x" * 200])
    assert (drawn == 255).all(-1).any()


def test_copies_keep_their_place(tmp_path: Path) -> None:
    out, base = tmp_path / "out", tmp_path / "in"
    assert place_for(str(base / "a/1.jpg"), out, base) == out / "a/1.jpg"
    assert place_for(str(base / "b/1.jpg"), out, base) == out / "b/1.jpg"
    assert place_for("/elsewhere/1.gif", out, base) == out / "elsewhere/1.gif.jpg"


def test_a_copy_never_takes_the_place_of_the_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / "new/a.png"
    write_image(path, pixels)
    assert np.array_equal(cv2.imread(str(path)), pixels)
    with pytest.raises(RunError, match="over the image itself"):
        write_image(path, pixels, str(path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be written"):
        write_image(tmp_path / "file/a.png", pixels)
