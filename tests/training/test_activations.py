"""The cache of views and activations."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdedge.files import cache_dir
from kdedge.preprocess import Preprocess
from kdedge.training.activations import build_bank, fit_to
from kdedge.training.augment import Augment, make_view
from kdedge.training.metrics import cosine_similarity
from kdedge.training.teachers import TeacherInput, build_teacher
from tests.training.conftest import DIM, PREPROCESS, pictures, write_teacher

IMAGES = pictures(9)
VIEWS = [3, 1, 2, 5, 1, 1, 4, 2, 1]


@pytest.fixture
def teacher(teacher_file):
    return build_teacher(f"onnx:{teacher_file}")


def build(teacher, images=IMAGES, views=VIEWS, augment=None, seed=0, progress=None):
    return build_bank(images, views, teacher, augment or Augment(), seed, progress)


def test_rows_show_the_views_of_each_image_in_order(teacher):
    told = []
    bank = build(teacher, progress=lambda done, total: told.append((done, total)))
    assert len(bank) == sum(VIEWS) == 20
    assert bank.image.tolist() == np.repeat(np.arange(9), VIEWS).tolist()
    assert bank.activations.shape == (20, DIM)
    assert not bank.reused
    assert told == [(16, 20), (20, 20)]
    transform, row = Augment().transform(), 0
    for index, count in enumerate(VIEWS):
        for view in range(count):
            assert (bank.views[row] == make_view(IMAGES[index], transform, index, view, 0)).all()
            row += 1


def test_a_hit_replays_exactly_and_asks_no_teacher(teacher, monkeypatch):
    first = build(teacher)
    views, activations = np.array(first.views), np.array(first.activations)

    def asked(_):
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(teacher, "embed", asked)
    again = build(teacher)
    assert again.reused
    assert (again.views == views).all()
    assert (again.activations == activations).all()
    assert (again.image == first.image).all()


def test_cached_activations_are_the_live_ones(teacher):
    build(teacher)
    bank = build(teacher)
    live = teacher.embed(fit_to(np.asarray(bank.views), teacher.preprocess))
    assert cosine_similarity(bank.activations, live) >= 0.999
    np.testing.assert_allclose(bank.activations, live, rtol=1e-4, atol=1e-4)


def test_whatever_changes_the_activations_changes_the_key(teacher, tmp_path):
    build(teacher)
    other_pixels = IMAGES.copy()
    other_pixels[4, 3, 3, 0] ^= 1
    other_weights = build_teacher(f"onnx:{write_teacher(tmp_path / 'other.onnx', 1, PREPROCESS)}")
    brighter = build_teacher(teacher.name, given=TeacherInput(mean=(100.0, 127.5, 127.5)))
    swapped = build_teacher(teacher.name, given=TeacherInput(color="bgr"))
    inner = build_teacher(f"{teacher.name}:flat")
    changes = [
        lambda: build(teacher, seed=1),
        lambda: build(teacher, images=other_pixels),
        lambda: build(teacher, images=IMAGES[::-1]),
        lambda: build(teacher, views=[*VIEWS[:-1], 2]),
        lambda: build(teacher, augment=replace(Augment(), rotate=21.0)),
        lambda: build(other_weights),
        lambda: build(brighter),
        lambda: build(swapped),
        lambda: build(inner),
    ]
    for number, change in enumerate(changes, 2):
        assert not change().reused
        assert len(list(cache_dir("activations").iterdir())) == number
        assert change().reused


def test_the_name_of_the_file_is_not_in_the_key(teacher, teacher_file, tmp_path):
    build(teacher)
    copied = Path(shutil.copy(teacher_file, tmp_path / "elsewhere.onnx"))
    assert build(build_teacher(f"onnx:{copied}")).reused


def test_a_folder_without_index_is_not_used(teacher):
    expected = np.array(build(teacher).activations)
    (home,) = cache_dir("activations").iterdir()
    (home / "index.json").unlink()
    spoiled = np.load(home / "activations.npy", mmap_mode="r+")
    spoiled[:] = 0
    spoiled.flush()
    bank = build(teacher)
    assert not bank.reused
    assert (bank.activations == expected).all()
    assert build(teacher).reused


def test_an_interrupted_pass_leaves_nothing(teacher):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(teacher, progress=stop)
    assert list(cache_dir("activations").iterdir()) == []


def test_fit_to_scales_to_what_the_network_wants():
    assert fit_to(IMAGES, Preprocess(16)) is IMAGES
    small = fit_to(IMAGES, Preprocess(8))
    assert small.shape == (9, 8, 8, 3)
    wanted = IMAGES.reshape(9, 8, 2, 8, 2, 3).astype(float).mean((2, 4))  # area averaging
    np.testing.assert_allclose(small, wanted, atol=0.51)
