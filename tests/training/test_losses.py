"""Each loss against its formula in float64."""

import numpy as np
import pytest
import torch

from kdedge.errors import RunError
from kdedge.training.losses import LOSSES, loss_named


def np_mse(p, t):
    return np.mean((p - t) ** 2)


def np_cosine(p, t):
    return np.mean(1 - (p * t).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1))


def np_smooth_l1(p, t):
    gap = np.abs(p - t)
    return np.mean(np.where(gap < 1, 0.5 * gap**2, gap - 0.5))


def np_bce(p, t):
    concept, said = 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(-p))
    return -np.mean(concept * np.log(said) + (1 - concept) * np.log(1 - said))


def np_srd(p, t):
    a, b = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (p, t))
    return np.log((np.abs(a - b) ** 4).sum() + 1e-8)


def np_relational(p, t):
    """Park et al., equation 4 with psi of equation 5, over all ordered pairs of different images."""

    def relative(x):
        distances = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        pairs = distances[~np.eye(len(x), dtype=bool)]
        return pairs / pairs.mean()

    return np_smooth_l1(relative(p), relative(t))


FORMULAS = {
    "mse": np_mse,
    "cosine": np_cosine,
    "mse+cosine": lambda p, t: np_mse(p, t) + 2 * np_cosine(p, t),
    "smoothl1+cosine": lambda p, t: 0.1 * np_smooth_l1(p, t) + 0.9 * np_cosine(p, t),
    "bce": np_bce,
    "srd": np_srd,
    "mse+relational": lambda p, t: np_mse(p, t) + 25 * np_relational(p, t),
}


def test_every_loss_has_a_formula_here():
    assert set(FORMULAS) == set(LOSSES)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient(name, seed):
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(0, 2, (7, 5)), rng.normal(0, 1, (7, 5))
    given = torch.tensor(predicted, dtype=torch.float32, requires_grad=True)
    value = loss_named(name)(given, torch.tensor(target, dtype=torch.float32))
    assert value.shape == ()
    assert value.item() == pytest.approx(FORMULAS[name](predicted, target), rel=1e-5)
    value.backward()
    numeric = np.zeros_like(predicted)
    for place in np.ndindex(*predicted.shape):
        step = np.zeros_like(predicted)
        step[place] = 1e-5
        numeric[place] = (FORMULAS[name](predicted + step, target) - FORMULAS[name](predicted - step, target)) / 2e-5
    np.testing.assert_allclose(given.grad.numpy(), numeric, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 300.0])
def test_extreme_values_stay_finite(name, scale):
    """All-zero predictions (a dead trunk) and exploding ones give a finite loss and finite gradients."""
    predicted = (scale * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))).requires_grad_()
    target = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    value = loss_named(name)(predicted, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_the_teachers_own_activations_are_the_least(name):
    target = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    loss = loss_named(name)
    best = loss(target, target).item()
    for seed in range(5):
        other = target + 0.3 * torch.randn(8, 6, generator=torch.Generator().manual_seed(seed + 1))
        assert loss(other, target).item() > best


def test_unknown_loss():
    with pytest.raises(RunError, match=r"unknown loss 'l2'.*mse.*bce"):
        loss_named("l2")
