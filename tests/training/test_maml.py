import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdedge.errors import DataError, RunError
from kdedge.training.baselines.maml import Adaptation, adapt, draw_task, maml_loss


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def problem(seed):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(6, 2)))
    return x, torch.from_numpy(rng.normal(size=(6, 1)))


def outer_gradient(model, inner):
    model.zero_grad()
    maml_loss(model, problem(1), problem(2), F.mse_loss, inner).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_the_slope_of_the_query_loss(steps):
    model, inner = small(), Adaptation(0.3, steps)
    found = outer_gradient(model, inner)
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()

    def value(vector):
        other = small()
        nn.utils.vector_to_parameters(vector.clone(), other.parameters())
        return float(maml_loss(other, problem(1), problem(2), F.mse_loss, inner))

    step = 1e-6
    for number in range(len(flat)):
        shift = torch.zeros_like(flat)
        shift[number] = step
        slope = (value(flat + shift) - value(flat - shift)) / (2 * step)
        assert float(found[number]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_first_order_leaves_the_second_derivatives_out():
    model = small()
    first = outer_gradient(model, Adaptation(0.3, 2, first_order=True))
    second = outer_gradient(model, Adaptation(0.3, 2))
    assert float((first - second).norm() / second.norm()) > 0.01
    fast = adapt(model, dict(model.named_parameters()), *problem(1), F.mse_loss, Adaptation(0.3, 2, first_order=True))
    leaves = {name: value.detach().requires_grad_() for name, value in fast.items()}
    loss = F.mse_loss(torch.func.functional_call(model, leaves, (problem(2)[0],)), problem(2)[1])
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))])
    torch.testing.assert_close(first, wanted)


def test_one_step_by_hand():
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(2.0)
    x, y = torch.tensor([[3.0]], dtype=torch.float64), torch.tensor([[1.0]], dtype=torch.float64)
    fast = adapt(model, dict(model.named_parameters()), x, y, F.mse_loss, Adaptation(0.01))
    assert float(fast["weight"]) == pytest.approx(2.0 - 0.01 * 2 * (6.0 - 1.0) * 3.0)


def test_running_statistics_are_left_alone():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    maml_loss(model, problem(1), problem(2), F.mse_loss, Adaptation(0.1)).backward()
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_sines():
    """Sine regression (section 5.1 of MAML): ten points and one step are enough for a wave that was never seen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    optimizer, inner = torch.optim.Adam(model.parameters(), 2e-3), Adaptation(0.01)

    def wave(rng):
        size, phase = rng.uniform(0.1, 5.0), rng.uniform(0, np.pi)
        x = torch.from_numpy(rng.uniform(-5, 5, (20, 1))).float()
        y = size * torch.sin(x - phase)
        return (x[:10], y[:10]), (x[10:], y[10:])

    for step in range(700):
        optimizer.zero_grad()
        tasks = [wave(np.random.default_rng((step, task))) for task in range(4)]
        sum(maml_loss(model, *task, F.mse_loss, inner) for task in tasks).backward()
        optimizer.step()
    before, after = 0.0, 0.0
    for task in range(100):
        support, query = wave(np.random.default_rng((9, 9, task)))
        fast = adapt(model, dict(model.named_parameters()), *support, F.mse_loss, Adaptation(0.01, 5))
        with torch.no_grad():
            before += float(F.mse_loss(model(query[0]), query[1]))
            after += float(F.mse_loss(torch.func.functional_call(model, fast, (query[0],)), query[1]))
    assert after < 0.6 * before


def test_tasks():
    labels = np.repeat(np.arange(6), 5)
    task = draw_task(labels, 3, 2, 3, (0, 1, 2))
    assert not set(task.support) & set(task.query)
    for items, own, each in ((task.support, task.support_labels, 2), (task.query, task.query_labels, 3)):
        assert np.bincount(own).tolist() == [each] * 3
        for number in range(3):
            assert len(set(labels[items[own == number]])) == 1
    again = draw_task(labels, 3, 2, 3, (0, 1, 2))
    np.testing.assert_array_equal(task.query, again.query)
    assert not np.array_equal(task.query, draw_task(labels, 3, 2, 3, (0, 1, 3)).query)


def test_tasks_that_cannot_be_drawn():
    with pytest.raises(DataError, match="1 of 2 classes have 2 \\+ 2 images; 2 such"):
        draw_task(np.array([0] * 4 + [1] * 3), 2, 2, 2, (0,))
    with pytest.raises(RunError, match="inner loop"):
        Adaptation(0.0)
