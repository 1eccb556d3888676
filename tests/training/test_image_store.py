"""Decoded images: in memory, or kept for the next run, but never those of a file that has changed."""

import os
import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest

from kdedge.data.check import read_images
from kdedge.data.faces import encode_png
from kdedge.errors import DataError
from kdedge.files import cache_dir
from kdedge.preprocess import Preprocess
from kdedge.training import image_store as module
from kdedge.training.image_store import decoded
from tests.training.conftest import pictures

COUNT, SIZE = 30, 16
FIT = Preprocess(SIZE)


@pytest.fixture
def paths(write_pictures):
    return write_pictures("images", COUNT)


@pytest.fixture
def large(monkeypatch) -> None:
    """No set of images is small."""
    monkeypatch.setattr(module, "IN_MEMORY", 0)


@pytest.fixture
def decodings(monkeypatch) -> list[int]:
    """How many files were decoded, call by call."""
    calls: list[int] = []

    def watched(paths, *rest, **named):
        calls.append(len(paths))
        return read_images(paths, *rest, **named)

    monkeypatch.setattr(module, "read_images", watched)
    return calls


def kept():
    """What is in the store, hidden files too."""
    return sorted(cache_dir("images").iterdir())


def test_small_sets_are_decoded_into_memory(paths, decodings, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", COUNT * SIZE * SIZE * 3)
    for _ in range(2):
        assert (decoded(paths, FIT).images == pictures(COUNT)).all()
    assert decodings == [COUNT] * 2
    assert kept() == []
    monkeypatch.setattr(module, "IN_MEMORY", COUNT * SIZE * SIZE * 3 - 1)  # a byte less, and it is large
    decoded(paths, FIT)
    assert len(kept()) == 1


def test_large_sets_are_decoded_once(paths, large, decodings):
    told = []
    first = decoded(paths, FIT, lambda done, total: told.append((done, total)))
    assert told == [(done, COUNT) for done in range(1, COUNT + 1)]
    again = decoded(paths, FIT)
    assert decodings == [COUNT]
    for read in (first, again):
        assert isinstance(read.images, np.memmap)
        assert not read.images.flags.writeable
        assert (read.images == pictures(COUNT)).all()
        assert read.kept == list(range(COUNT))
        assert read.bad == []


def test_what_is_read_is_what_would_be_decoded(paths, large):
    fit = Preprocess(8, resize="squash")
    decoded(paths, fit)
    wanted = read_images(paths, fit)
    found = decoded(paths, fit)
    assert found.images.shape == wanted.images.shape == (COUNT, 8, 8, 3)
    assert (found.images == wanted.images).all()


def test_bad_images_are_remembered(paths, large, decodings):
    paths[4].write_bytes(b"no image at all")
    reads = [decoded(paths, FIT) for _ in range(2)]
    assert decodings == [COUNT]
    for read in reads:
        assert read.images.shape == (COUNT - 1, SIZE, SIZE, 3)
        assert (read.images == np.delete(pictures(COUNT), 4, 0)).all()
        assert read.kept == [number for number in range(COUNT) if number != 4]
        assert [path for path, _ in read.bad] == [paths[4]]
        assert "not an image" in read.bad[0][1]


def test_too_many_bad_images_are_refused_each_time_and_leave_nothing(paths, large, decodings):
    for path in paths[:4]:
        path.write_bytes(b"no image at all")
    for _ in range(2):
        with pytest.raises(DataError, match="4 of 30 images cannot be read"):
            decoded(paths, FIT)
    assert decodings == [COUNT] * 2
    assert kept() == []


def other_pixels(paths):
    image = pictures(COUNT)[7]
    paths[7].write_bytes(encode_png(image[::-1].copy()))
    os.utime(paths[7], ns=(0, paths[7].stat().st_mtime_ns + 10**9))  # a clock may tick slower than this test runs
    return paths, np.concatenate([pictures(COUNT)[:7], image[None, ::-1], pictures(COUNT)[8:]])


def other_size_same_time(paths):
    before = paths[7].stat()
    paths[7].write_bytes(encode_png(np.zeros((SIZE, SIZE, 3), np.uint8)))
    assert paths[7].stat().st_size != before.st_size
    os.utime(paths[7], ns=(before.st_atime_ns, before.st_mtime_ns))
    wanted = pictures(COUNT)
    wanted[7] = 0
    return paths, wanted


def mended(paths):
    good = paths[7].read_bytes()
    paths[7].write_bytes(b"no image at all")
    decoded(paths, FIT)
    paths[7].write_bytes(good)
    return paths, pictures(COUNT)


def moved(paths):
    home = shutil.copytree(paths[0].parent, paths[0].parent.with_name("moved"))
    assert [path.stat().st_mtime_ns for path in sorted(home.iterdir())] == [path.stat().st_mtime_ns for path in paths]
    return sorted(home.iterdir()), pictures(COUNT)


CHANGES = {
    "a file's pixels": other_pixels,
    "a file's size": other_size_same_time,
    "a bad file is mended": mended,
    "the folder": moved,
    "the order": lambda paths: (paths[::-1], pictures(COUNT)[::-1]),
    "one more": lambda paths: ([*paths, paths[3]], np.concatenate([pictures(COUNT), pictures(COUNT)[3:4]])),
    "one less": lambda paths: (paths[1:], pictures(COUNT)[1:]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_decoded_anew(paths, large, decodings, change):
    decoded(paths, FIT)
    changed, wanted = CHANGES[change](paths)
    decodings.clear()
    assert (decoded(changed, FIT).images == wanted).all()
    assert decodings == [len(changed)]
    decoded(changed, FIT)
    assert len(decodings) == 1


@pytest.mark.parametrize("changes", [{"size": 8}, {"resize": "squash"}])
def test_another_fit_is_another_set(paths, large, decodings, changes):
    decoded(paths, FIT)
    fit = replace(FIT, **changes)
    assert (decoded(paths, fit).images == read_images(paths, fit).images).all()
    assert len(decodings) == 2
    decoded(paths, replace(fit, mean=(0.0, 0.0, 0.0), color="bgr"))  # what comes after the pixels does not matter
    assert len(decodings) == 2


@pytest.mark.parametrize("moment", ["decoding", "writing the index"])
def test_an_interrupted_decoding_leaves_nothing(paths, large, monkeypatch, moment):
    def stop(*_):
        raise KeyboardInterrupt

    def stop_at_ten(done, _):
        if done == 10 and moment == "decoding":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment != "decoding":
            patched.setattr(module, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            decoded(paths, FIT, stop_at_ten)
    assert kept() == []
    assert (decoded(paths, FIT).images == pictures(COUNT)).all()


def test_a_folder_without_index_is_made_again(paths, large, decodings):
    decoded(paths, FIT)
    (home,) = kept()
    (home / "index.json").unlink()
    (home / "pixels.npy").write_bytes(b"")
    assert (decoded(paths, FIT).images == pictures(COUNT)).all()
    assert len(decodings) == 2
    assert kept() == [home]


def test_whoever_may_read_the_cache_may_read_the_images(paths, large, tmp_path):
    decoded(paths, FIT)
    (home,) = kept()
    plain = tmp_path / "plain"
    plain.mkdir()
    assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
