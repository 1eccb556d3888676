import math

import numpy as np
import pytest

from kdedge.errors import RunError
from kdedge.training.schedule import cosine_with_warmup, inverse_sqrt, rate


def test_rises_then_falls():
    values = np.array([cosine_with_warmup(x) for x in np.linspace(0, 1, 2001)])
    top = int(values.argmax())
    assert top / 2000 == pytest.approx(0.05)
    assert values[top] == 1.0
    assert (np.diff(values[: top + 1]) >= 0).all()
    assert (np.diff(values[top:]) <= 0).all()
    assert values.min() == pytest.approx(0.001)
    assert values[-1] == pytest.approx(0.001)
    assert (values > 0).all()  # a first step at rate 0 would be lost


@pytest.mark.parametrize("done", [0.1, 0.3, 0.525, 0.9])
def test_half_a_cosine(done):
    along = (done - 0.1) / 0.9
    wanted = 0.01 + 0.99 * (1 + math.cos(math.pi * along)) / 2
    assert cosine_with_warmup(done, warmup=0.1, floor=0.01) == pytest.approx(wanted)


def test_outside_the_training_it_stays_at_the_ends():
    assert cosine_with_warmup(-1) == cosine_with_warmup(0)
    assert cosine_with_warmup(7) == cosine_with_warmup(1)


def test_no_warmup_starts_at_the_top():
    assert cosine_with_warmup(0.0, warmup=0.0) == 1.0


@pytest.mark.parametrize("epoch", [0, 1, 3, 99])
def test_the_papers_rule(epoch):
    assert inverse_sqrt(epoch) == pytest.approx((1 + epoch) ** -0.5, rel=1e-12)
    assert rate("inverse-sqrt", 0.5, epoch, 0.05) == inverse_sqrt(epoch)


def test_schedules_by_name():
    assert rate("constant", 0.9, 7, 0.05) == 1.0
    assert rate("cosine", 0.4, 7, 0.1) == cosine_with_warmup(0.4, 0.1)
    with pytest.raises(RunError, match="inverse-sqrt"):
        rate("linear", 0.1, 0, 0.05)
    with pytest.raises(RunError, match="negative"):
        inverse_sqrt(-1)
