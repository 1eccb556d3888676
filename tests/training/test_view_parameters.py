import random
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from kdedge.errors import DataError
from kdedge.training.augment import Augment
from kdedge.training.view_parameters import ViewParameters, draw_parameters

MANY = 8000
BUSY = Augment(
    flip=0.3,
    rotate=(-10.0, 30.0),
    rotate_p=0.6,
    zoom_p=0.7,
    shift=0.2,
    jitter=(0.4, 1.5, 0.3, 0.1),
    jitter_p=0.8,
    blur=0.25,
    erase=0.4,
)
SURE = Augment(flip=1.0, blur=1.0, erase=1.0)


def draw(augment, count=MANY, seed=0, view=1, start=0):
    return draw_parameters(np.arange(start, start + count), np.full(count, view), augment, seed)


def columns(parameters):
    """Every parameter as (B, numbers)."""
    parts = [getattr(parameters, field.name) for field in fields(ViewParameters)]
    return np.concatenate([part.reshape(len(part), -1).astype(float) for part in parts], 1)


@pytest.mark.parametrize("number", [0, 5, 2**63 - 1, -(2**63), -1])
@pytest.mark.parametrize(("view", "seed"), [(1, 0), (7, 10**12), (2**62, -3), (3, 2**64 - 1)])
def test_numbers_are_those_of_philox(number, view, seed):
    key, counter = np.array([seed % 2**64, number % 2**64], np.uint64), np.array([0, view, 0, 0], np.uint64)
    u = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(17)
    found = draw_parameters(np.array([number]), np.array([view]), Augment(flip=0.5, blur=1.0), seed)
    assert found.flip[0] == (u[0] < 0.5)
    expected = [-20 + 40 * u[2], 0.8 + 0.45 * u[4], -0.08 + 0.16 * u[5], -0.08 + 0.16 * u[6], 0.6 + 0.8 * u[8]]
    expected += [0.6 + 0.8 * u[9], 0.7 + 0.6 * u[10], -0.03 + 0.06 * u[11], 0.1 + 1.4 * u[13]]
    names = ["angle", "scale", "shift", "brightness", "contrast", "saturation", "hue", "sigma"]
    np.testing.assert_allclose(np.concatenate([getattr(found, name).ravel() for name in names]), expected, 1e-12)


def test_a_view_is_the_same_in_any_company():
    rng = np.random.default_rng(1)
    ids, views = rng.integers(-(2**63), 2**63 - 1, 50), rng.integers(0, 4, 50)
    together = columns(draw_parameters(ids, views, BUSY, 7))
    order = rng.permutation(50)
    assert (columns(draw_parameters(ids[order], views[order], BUSY, 7)) == together[order]).all()
    for row in range(50):
        alone = draw_parameters(ids[row : row + 1], views[row : row + 1], BUSY, 7)
        assert (columns(alone)[0] == together[row]).all()


def test_nothing_happens_in_view_0():
    found = draw(SURE, 20, view=0)
    assert not found.changed().any()
    assert (columns(found) == columns(ViewParameters.identity(20))).all()
    assert draw(SURE, 20).changed().all()


@pytest.mark.parametrize("field", fields(ViewParameters), ids=lambda field: field.name)
def test_one_parameter_makes_a_change(field):
    found = ViewParameters.identity(3)
    assert not found.changed().any()
    getattr(found, field.name)[1] = 0.25
    assert found.changed().tolist() == [False, True, False]


def test_probabilities_hold():
    found = draw(BUSY)
    seen = {
        "flip": (found.flip, BUSY.flip),
        "rotate": (found.angle != 0, BUSY.rotate_p),
        "zoom": (found.scale != 1, BUSY.zoom_p),
        "jitter": (found.brightness != 1, BUSY.jitter_p),
        "blur": (found.sigma != 0, BUSY.blur),
        "erase": (found.erased(), BUSY.erase),
    }
    for name, (hits, probability) in seen.items():
        assert stats.binomtest(int(hits.sum()), MANY, probability).pvalue > 1e-4, name
    pairs = np.corrcoef([hits for hits, _ in seen.values()])
    assert np.abs(pairs - np.eye(len(seen))).max() < 5 / MANY**0.5
    assert ((found.shift != 0).all(1) == (found.scale != 1)).all()  # a shift goes with the scale
    for name in ("contrast", "saturation"):
        assert ((getattr(found, name) != 1) == (found.brightness != 1)).all()
    assert ((found.hue != 0) == (found.brightness != 1)).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("angle", -10, 30),
        ("scale", 0.8, 1.25),
        ("shift", -0.2, 0.2),
        ("brightness", 0.6, 1.4),
        ("contrast", 0, 2.5),
        ("saturation", 0.7, 1.3),
        ("hue", -0.1, 0.1),
        ("sigma", 0.1, 1.5),
    ],
)
def test_ranges_are_filled_evenly(name, low, high):
    found = draw(BUSY)
    values = getattr(found, name)[getattr(found, name) != getattr(ViewParameters.identity(1), name).flat[0]]
    assert low <= values.min()
    assert values.max() < high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_what_cannot_happen_does_not():
    paper = draw(Augment.paper())
    for values in (paper.shift, paper.hue, paper.erase):
        assert not values.any()
    assert (paper.brightness == 1).all()
    assert (paper.saturation == 1).all()
    never = Augment(flip=0, rotate_p=0, zoom_p=0, jitter_p=0, blur=0)
    assert not draw(never, 500).changed().any()
    still = Augment(flip=0, rotate=0, shift=0, zoom=(1, 1), jitter=(0, 0, 0, 0), blur=0)
    assert not draw(still, 500).changed().any()


def test_moves_are_distributed_as_in_torchvision():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    reference = v2.RandomAffine(20, (0.08, 0.08), (0.8, 1.25))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = [reference.make_params([image]) for _ in range(3000)]
    found = draw(Augment())
    assert stats.ks_2samp([one["angle"] for one in made], found.angle).pvalue > 1e-3
    assert stats.ks_2samp([one["scale"] for one in made], found.scale).pvalue > 1e-3
    pixels = np.rint(found.shift * 64)
    for axis in range(2):
        assert stats.ks_2samp([one["translate"][axis] for one in made], pixels[:, axis]).pvalue > 1e-3


@pytest.mark.parametrize("area", [(0.02, 0.2), (0.3, 0.95)])
def test_rectangles_are_distributed_as_in_torchvision(area):
    """At large areas many tries do not fit, which shifts the distribution."""
    image = torch.zeros(3, 1000, 1000, dtype=torch.uint8)
    reference = v2.RandomErasing(1.0, area)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = [reference.make_params([image]) for _ in range(2000)]
    made = [one for one in made if one["v"] is not None]
    found = draw(Augment(erase=1.0, erase_area=area))
    height, width, top, left = found.erase[found.erased()].T
    assert found.erased().mean() == pytest.approx(len(made) / 2000, abs=0.005)
    assert max(height.max(), width.max()) < 1
    assert area[0] <= (height * width).min()
    assert (height * width).max() < area[1]
    assert stats.ks_2samp([one["h"] for one in made], np.rint(1000 * height)).pvalue > 1e-3
    assert stats.ks_2samp([one["w"] for one in made], np.rint(1000 * width)).pvalue > 1e-3
    assert stats.ks_2samp([one["h"] / one["w"] for one in made], height / width).pvalue > 1e-3
    assert stats.ks_2samp([one["i"] for one in made], top * (1000 - 1000 * height)).pvalue > 1e-3
    assert stats.ks_2samp([one["j"] for one in made], left * (1000 - 1000 * width)).pvalue > 1e-3


def test_neighbours_and_parameters_are_uncorrelated():
    base = columns(draw(SURE))[:, 1:]  # all but flip, which is certain
    others = {
        "id": columns(draw(SURE, start=1)),
        "view": columns(draw(SURE, view=2)),
        "seed": columns(draw(SURE, seed=1)),
    }
    bound = 5 / MANY**0.5
    for name, other in others.items():
        pairs = np.corrcoef(base.T, other[:, 1:].T)[: base.shape[1], base.shape[1] :]
        assert np.abs(pairs).max() < bound, name
    inner = np.corrcoef(base.T) - np.eye(base.shape[1])
    inner[-4, -3] = inner[-3, -4] = 0  # height and width of a rectangle share their area
    assert np.abs(inner).max() < bound


def test_swapping_id_view_and_seed_gives_other_numbers():
    found = {
        columns(draw_parameters(np.array([number]), np.array([view]), Augment(), seed)).tobytes()
        for number in range(1, 6)
        for view in range(1, 6)
        for seed in range(1, 6)
    }
    assert len(found) == 125


def test_a_setting_leaves_the_other_draws_alone():
    plain, other = draw(Augment(), 50), draw(Augment(flip=0.9, rotate_p=0.1, jitter=(0, 0, 0, 0.03), erase=0.5), 50)
    assert (plain.scale == other.scale).all()
    assert (plain.hue == other.hue).all()
    assert (plain.sigma == other.sigma).all()


def test_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    draw(SURE, 50)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_some_rows():
    found = draw(BUSY, 10)
    mask = np.arange(10) % 2 == 1
    for rows in (slice(2, 5), mask, np.array([7, 1])):
        assert (columns(found[rows]) == columns(found)[rows]).all()
    assert len(found[mask]) == 5


def test_lengths_must_agree():
    with pytest.raises(DataError, match="one of each"):
        draw_parameters(np.arange(3), np.arange(2), Augment(), 0)
