import numpy as np
import pytest
import torch

from kdedge.errors import RunError
from kdedge.training.baselines.label_kd import label_kd, label_kd_loss

RNG = np.random.default_rng(3)
STUDENT, TEACHER = RNG.normal(size=(7, 5)) * 2, RNG.normal(size=(7, 5)) * 3
LABELS = RNG.integers(0, 5, 7)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def formula(alpha, temperature):
    hard = -np.log(softmax(STUDENT))[np.arange(7), LABELS].mean()
    soft = -(softmax(TEACHER / temperature) * np.log(softmax(STUDENT / temperature))).sum(1).mean()
    return alpha * hard + (1 - alpha) * soft


@pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 1.0), (0.0, 4.0), (1.0, 2.0), (0.5, 0.5)])
def test_the_papers_formula(alpha, temperature):
    loss = label_kd_loss(
        torch.from_numpy(STUDENT), torch.from_numpy(LABELS), torch.from_numpy(TEACHER), alpha, temperature
    )
    assert float(loss) == pytest.approx(formula(alpha, temperature), rel=1e-12)


def test_a_criterion_takes_the_logits_of_its_items():
    items = np.array([4, 1, 6])
    given = torch.from_numpy(STUDENT[items]).float(), torch.from_numpy(LABELS[items])
    found = label_kd(TEACHER, 0.1, 2.0)(*given, items)
    wanted = label_kd_loss(*given, torch.from_numpy(TEACHER[items]).float(), 0.1, 2.0)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    assert float(found) != pytest.approx(float(label_kd(TEACHER, 0.1, 2.0)(*given, items[::-1].copy())), rel=1e-3)


@pytest.mark.parametrize("given", [{"alpha": 1.5}, {"alpha": -0.1}, {"temperature": 0.0}])
def test_settings_out_of_range(given):
    with pytest.raises(RunError):
        label_kd(TEACHER, **given)
