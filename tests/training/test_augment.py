import random

import numpy as np
import pytest
import torch

from kdedge.training.augment import Augment, make_view
from tests.training.conftest import pictures


@pytest.fixture
def image():
    return pictures(1, 32)[0]


def test_the_same_key_gives_the_same_bits_whatever_came_before(image):
    transform = Augment().transform()
    first = [make_view(image, transform, 3, view, 11) for view in range(1, 8)]
    torch.manual_seed(987)
    torch.rand(13)
    for view in (5, 2, 7, 1):
        make_view(image, transform, 99, view, 1)  # other draws in between
        assert (make_view(image, Augment().transform(), 3, view, 11) == first[view - 1]).all()


def test_other_keys_give_other_views(image):
    transform = Augment().transform()
    found = {
        make_view(image, transform, number, view, seed).tobytes()
        for number in range(3)
        for view in range(1, 4)
        for seed in range(3)
    }
    assert len(found) == 27


@pytest.mark.parametrize("seed", [0, 1, 10**12])
def test_view_0_is_the_image(image, seed):
    assert make_view(image, Augment().transform(), 5, 0, seed) is image


def test_shape_and_layout(image):
    view = make_view(image, Augment().transform(), 0, 1, 0)
    assert view.shape == image.shape
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous


def test_the_image_is_left_alone(image):
    before = image.copy()
    for view in range(1, 20):
        make_view(image, Augment().transform(), 0, view, 0)
    assert (image == before).all()


def test_global_generators_are_left_alone(image):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  the legacy state must survive, too
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    for view in range(1, 10):
        make_view(image, Augment().transform(), 0, view, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_probabilities_of_zero_and_one(image):
    nothing = Augment(flip=0, rotate=0, shift=0, zoom=(1, 1), jitter=(0, 0, 0, 0), blur=0)
    assert (make_view(image, nothing.transform(), 0, 1, 0) == image).all()
    flip = Augment(flip=1, rotate=0, shift=0, zoom=(1, 1), jitter=(0, 0, 0, 0), blur=0)
    assert (make_view(image, flip.transform(), 0, 1, 0) == image[:, ::-1]).all()
    blur = Augment(flip=0, rotate=0, shift=0, zoom=(1, 1), jitter=(0, 0, 0, 0), blur=1)
    soft = make_view(image, blur.transform(), 0, 1, 0)
    assert np.abs(np.diff(soft.astype(int), axis=0)).max() < np.abs(np.diff(image.astype(int), axis=0)).max()
