import numpy as np
import pytest

from kdedge.data.check import check_folder, read_images
from kdedge.errors import DataError
from kdedge.preprocess import Preprocess, decode

PREPROCESS = Preprocess(6)


@pytest.fixture
def bad_images(tmp_path, write_image):
    whole = write_image("whole.png", 99, size=(30, 30)).read_bytes()
    contents = {
        "text.jpg": b"not an image",
        "cut.png": whole[: len(whole) // 2],
        "empty.png": b"",
        "naïve 図.png": b"x",
    }
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept_and_bad_ones_are_skipped(tmp_path, write_image, bad_images, mapped, workers):
    good = [write_image(f"good/図 {i}.png", i, size=(9 + i % 5, 12)) for i in range(100)]
    paths = [*good[:40], *bad_images, *good[40:]]
    steps = []
    read = read_images(
        paths,
        PREPROCESS,
        into=tmp_path / "deep" / "pixels.npy" if mapped else None,
        workers=workers,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert read.kept == [*range(40), *range(44, 104)]
    assert [path for path, _ in read.bad] == bad_images
    assert all(reason and str(path) not in reason for path, reason in read.bad)
    assert read.images.shape == (100, 6, 6, 3)
    assert (read.images == np.stack([PREPROCESS.fit(decode(path)) for path in good])).all()
    assert steps == [(i, 104) for i in range(1, 105)]
    assert isinstance(read.images, np.memmap) == mapped


@pytest.mark.parametrize(("good", "bad", "fine"), [(19, 1, True), (18, 1, False), (38, 2, True), (37, 2, False)])
def test_five_percent_is_the_limit(write_image, bad_images, good, bad, fine):
    paths = [write_image("a.png")] * good + bad_images[:bad]
    if fine:
        assert len(read_images(paths, PREPROCESS).bad) == bad
    else:
        with pytest.raises(DataError, match=f"{bad} of {good + bad} images") as caught:
            read_images(paths, PREPROCESS)
        assert str(bad_images[0]) in str(caught.value)


def test_the_error_names_three_and_counts_the_others(bad_images):
    with pytest.raises(DataError, match=r"4 of 4 images.*; and 1 more") as caught:
        read_images(bad_images, PREPROCESS, max_bad=1.0)
    assert [str(path) in str(caught.value) for path in bad_images] == [True, True, True, False]


def test_nothing_to_read():
    with pytest.raises(DataError, match="no images"):
        read_images([], PREPROCESS)


def test_check_folder(tmp_path, write_image):
    write_image("train/a/1.png", 1, size=(10, 20))
    write_image("train/a/2.png", 2, size=(30, 40))
    write_image("train/b/copy.png", 1, size=(10, 20))
    write_image("test/b/x.png", 2, size=(30, 40))
    write_image("test/b/y.png", 3)
    (tmp_path / "train" / "b" / "text.jpg").write_text("text")
    report = check_folder(tmp_path / "train", tmp_path / "test")
    assert report.total == 4
    assert (report.smallest, report.largest) == ((10, 20), (30, 40))
    assert report.classes == {"a": 2, "b": 2}
    assert [path.name for path, _ in report.bad] == ["text.jpg"]
    assert report.duplicates == ((tmp_path / "train/a/1.png", tmp_path / "train/b/copy.png"),)
    assert report.leaks == ((tmp_path / "train/a/2.png", tmp_path / "test/b/x.png"),)
    assert report.to_dict()["images"] == 4


def test_check_folder_of_bad_images_alone(tmp_path):
    (tmp_path / "x.jpg").write_text("text")
    report = check_folder(tmp_path)
    assert report.smallest is None
    assert report.classes == {}
    assert len(report.bad) == 1
