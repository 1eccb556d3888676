"""The few-shot probe against scikit-learn, called in the plain way."""

import math

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

from kdedge.errors import DataError
from kdedge.training.probe import PENALTIES, few_shot_probe


def clouds(each=8, classes=4, dim=30, spread=1.0, seed=0):
    """Gaussian classes around random centres, (each * classes, dim)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32), labels


def scaled(x, like):
    like = like.astype(np.float64)
    return (x - like.mean(0)) / np.sqrt(like.var(0).sum())


@pytest.mark.parametrize("spread", [0.3, 2.0, 5.0])
def test_on_validation_images_it_is_scikit_learns_ridge(spread):
    (x, y), (v, w) = clouds(spread=spread), clouds(each=50, spread=spread, seed=1)
    wanted = RidgeClassifierCV(PENALTIES).fit(scaled(x, x), y).score(scaled(v, x), w)
    assert few_shot_probe(x, y, v, w) == pytest.approx(wanted)
    assert wanted > 0.9 if spread < 1 else wanted < 1.0  # the three cases differ


@pytest.mark.parametrize(("classes", "dim", "spread"), [(4, 30, 2.5), (2, 30, 3.0), (3, 4, 1.0), (5, 80, 4.0)])
def test_without_them_each_image_is_left_out_in_turn(classes, dim, spread):
    x, y = clouds(classes=classes, dim=dim, spread=spread, seed=classes)
    z = scaled(x, x)
    penalty = RidgeClassifierCV(PENALTIES).fit(z, y).alpha_
    hits = [
        RidgeClassifier(alpha=penalty).fit(np.delete(z, i, 0), np.delete(y, i)).predict(z[i : i + 1])[0] == y[i]
        for i in range(len(y))
    ]
    assert 0.0 < np.mean(hits) < 1.0
    assert few_shot_probe(x, y) == pytest.approx(np.mean(hits))


def test_scale_place_and_class_numbers_do_not_matter():
    x, y = clouds(spread=3.0)
    plain = few_shot_probe(x, y)
    assert few_shot_probe(x * 1000.0 + 5.0, y) == plain
    assert few_shot_probe(x, y * 7 - 3) == plain
    assert few_shot_probe(x, y) == plain


def test_noise_is_told_from_signal():
    x, y = clouds(each=25, spread=0.5)
    assert few_shot_probe(x, y) == 1.0
    rng = np.random.default_rng(3)
    assert few_shot_probe(rng.normal(size=x.shape), y) < 0.45  # 4 classes
    assert few_shot_probe(np.ones_like(x), y) <= 0.25  # collapsed: nothing to go by


def test_one_image_a_class_needs_validation_images():
    x, y = clouds(each=1)
    assert math.isnan(few_shot_probe(x, y))
    v, w = clouds(each=20, spread=0.3, seed=1)
    assert few_shot_probe(x, y, v, w) > 0.5


def test_nothing_can_be_said():
    x, y = clouds()
    assert math.isnan(few_shot_probe(x, np.zeros_like(y)))
    broken = x.copy()
    broken[3, 2] = math.inf
    assert math.isnan(few_shot_probe(broken, y))
    assert math.isnan(few_shot_probe(x, y, broken, y))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x, y: (x, y[:-1]), "do not match"),
        (lambda x, y: (x[0], y), "do not match"),
        (lambda x, y: (x[:0], y[:0]), "do not match"),
        (lambda x, y: (x, y, x, y[1:]), "validation embeddings"),
        (lambda x, y: (x, y, x), "both or neither"),
        (lambda x, y: (x, y, x[:, 1:], y), "29 dimensions"),
    ],
)
def test_what_does_not_match_is_refused(given, words):
    with pytest.raises(DataError, match=words):
        few_shot_probe(*given(*clouds()))
