"""The head against scikit-learn's own pipeline."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from kdedge.errors import DataError
from kdedge.training.finetune import STRENGTHS, fit_head


def problem(classes=4, images=6, views=3, dim=10, spread=2.0, seed=0):
    """Embeddings of ``views`` views of ``images`` images a class, dimensions of different scale."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (classes, dim))
    labels = np.repeat(np.arange(classes), images)
    means = centres[labels] + rng.normal(0, 1, (classes * images, dim))
    x = np.repeat(means, views, 0) + 0.2 * rng.normal(size=(classes * images * views, dim))
    x = (x * np.geomspace(0.3, 3, dim) + 3).astype(np.float32)
    return x, np.repeat(labels, views), np.repeat(np.arange(classes * images), views)


def reference(x, labels, strength):
    x = x.astype(np.float64)
    scale = np.sqrt(np.mean([np.var(column) for column in x.T]))
    narrow = FunctionTransformer(lambda z: (z / scale).astype(np.float32))
    logistic = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    return make_pipeline(StandardScaler(with_std=False), narrow, logistic).fit(x, labels)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_folded_scaling_is_scikit_learns_pipeline(strength):
    x, labels, groups = problem()
    head = fit_head(x, labels, groups, 4, strengths=[strength])
    wanted = reference(x, labels, strength)
    logits = x.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias
    np.testing.assert_allclose(logits, wanted.decision_function(x.astype(np.float64)), rtol=1e-3, atol=5e-3)
    assert (head.predict(x) == wanted.predict(x)).all()
    assert head.strength == strength
    assert head.weight.shape == (4, 10)
    assert head.weight.dtype == head.bias.dtype == np.float32


def test_two_classes_keep_two_logits():
    x, labels, groups = problem(classes=2, spread=0.5)
    head = fit_head(x, labels, groups, 2, strengths=[0.1])
    wanted = reference(x, labels, 0.1)
    logits = x.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias
    assert logits.shape == (len(x), 2)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], wanted.decision_function(x), rtol=1e-3, atol=5e-3)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(softmax, wanted.predict_proba(x), atol=2e-3)


def test_dead_dimensions_get_no_weight():
    x, labels, groups = problem()
    x[:, 2], x[:, 7] = 0.0, 123.0
    head = fit_head(x, labels, groups, 4)
    assert (head.weight[:, [2, 7]] == 0).all()
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()
    changed = x.copy()
    changed[:, 7] = -50  # a dimension that was dead comes alive on the device
    assert (head.predict(changed) == head.predict(x)).all()


def test_all_dimensions_dead_still_gives_finite_logits():
    _, labels, groups = problem()
    head = fit_head(np.ones((len(labels), 5), np.float32), labels, groups, 4)
    assert np.isfinite(head.predict(np.ones((3, 5)))).all()
    assert (head.weight == 0).all()


def test_views_of_an_image_never_stand_on_both_sides():
    """Embeddings that tell the image and nothing else: who has seen a view of it knows its class, nobody else does."""
    rng = np.random.default_rng(0)
    images, views = 60, 4
    groups = np.repeat(np.arange(images), views)
    labels = rng.permutation(np.repeat([0, 1, 2], images // 3))[groups]
    x = 10 * np.eye(images)[groups] + 0.01 * rng.normal(size=(images * views, images))
    head = fit_head(x, labels, groups, 3)
    assert (head.predict(x) == labels).all()
    assert head.validation_accuracy < 0.55  # chance is a third; with leaking views it would be 1


def test_cross_validation_chooses():
    x, labels, groups = problem(classes=3, images=12, spread=0.6, dim=40)
    head = fit_head(x, labels, groups, 3)
    alone = {s: fit_head(x, labels, groups, 3, strengths=[s]).validation_accuracy for s in STRENGTHS}
    assert head.validation_accuracy == max(alone.values())
    assert alone[head.strength] == head.validation_accuracy
    again = fit_head(x, labels, groups, 3)
    assert (again.weight == head.weight).all()


def test_one_image_a_class_cannot_be_cross_validated():
    x, labels, groups = problem(images=1)
    head = fit_head(x, labels, groups, 4)
    assert np.isnan(head.validation_accuracy)
    assert head.strength == STRENGTHS[1]
    assert (head.predict(x) == labels).all()


def test_a_class_without_images():
    x, labels, groups = problem()
    keep = labels != 2
    with pytest.raises(DataError, match="class number 2 has no labelled image"):
        fit_head(x[keep], labels[keep], groups[keep], 4)
