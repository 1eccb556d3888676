import itertools
import math
import os
import signal
import types

import numpy as np
import pytest
import torch
from torch import nn

from kdedge.errors import RunError
from kdedge.training.clock import Clock
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, parameter_groups, start, train
from kdedge.training.schedule import cosine_with_warmup
from tests.training.conftest import Tiny

ENGINE = Engine(torch.device("cpu"))
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(96, 5)).astype(np.float32))
TRUTH = torch.from_numpy(RNG.normal(size=(5, 3)).astype(np.float32))
Y = X @ TRUTH + 0.5


def loss_of(model, indices, epoch):
    return nn.functional.mse_loss(model(X[indices]), Y[indices])


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(5, 3)


def run(config, model=None, **options):
    state = start(model or linear(), config)
    return state, train(state, options.pop("loss_of", loss_of), len(X), config, ENGINE, **options)


def test_a_linear_problem_is_learned():
    state, trained = run(LoopConfig(steps=400, lr=0.03, weight_decay=0.0))
    for model in (state.model, state.averaged.module):
        torch.testing.assert_close(model.weight, TRUTH.T, atol=0.02, rtol=0)
        torch.testing.assert_close(model.bias, torch.full((3,), 0.5), atol=0.02, rtol=0)
    assert (trained.steps, trained.images) == (400, 400 * 32)
    assert trained.history == []


def test_equal_seeds_equal_weights_other_seeds_others():
    first, second, other = (run(LoopConfig(steps=20, seed=seed))[0] for seed in (4, 4, 5))
    for of in (lambda s: s.model, lambda s: s.averaged.module):
        assert torch.equal(of(first).weight, of(second).weight)
        assert not torch.equal(of(first).weight, of(other).weight)


def test_an_epoch_draws_everything_once():
    drawn = []

    def watch(model, indices, epoch):
        drawn.append(indices)
        return loss_of(model, indices, epoch)

    run(LoopConfig(steps=9, batch=32), loss_of=watch)  # 96 items: 3 epochs
    epochs = [np.concatenate(drawn[start : start + 3]) for start in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(96))
    assert not (drawn[0] == drawn[3]).all()


def test_fewer_items_than_a_batch():
    state = start(linear(), config := LoopConfig(steps=5, batch=32))
    sizes = []

    def watch(model, indices, epoch):
        sizes.append(len(indices))
        return loss_of(model, indices, epoch)

    train(state, watch, 7, config, ENGINE)
    assert sizes == [7] * 5


@pytest.mark.parametrize("ema", [0.3, 0.99])
def test_averaged_weights_decay_as_documented(ema):
    """The first average is the weights after step 1; then decay min(ema, (1 + n) / (10 + n)), in float64."""
    seen = []

    def watch(model, indices, epoch):
        seen.append(model.weight.detach().double().numpy().copy())
        return loss_of(model, indices, epoch)

    state, _ = run(LoopConfig(steps=25, lr=0.05, ema=ema), loss_of=watch)
    after = [*seen[1:], state.model.weight.detach().double().numpy()]
    average = after[0]
    for n, weights in enumerate(after[1:], 1):
        decay = min(ema, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weights
    np.testing.assert_allclose(state.averaged.module.weight.detach().numpy(), average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_training(value):
    count = itertools.count()

    def explode(model, indices, epoch):
        loss = loss_of(model, indices, epoch)
        return loss * value if next(count) == 3 else loss

    saved = []
    with pytest.raises(RunError, match=r"the loss became .* at step 3; lower the learning rate"):
        run(LoopConfig(steps=10), loss_of=explode, save=saved.append)
    assert saved == []  # no spoiled checkpoint


@pytest.mark.parametrize("given", [{}, {"steps": 5, "seconds": 1.0}])
def test_exactly_one_of_steps_and_seconds(given):
    with pytest.raises(RunError, match="either a number of steps"):
        LoopConfig(**given)


@pytest.mark.parametrize("given", [{"steps": -1}, {"seconds": -1.0}, {"steps": 5, "batch": 1}])
def test_settings_that_make_no_sense(given):
    with pytest.raises(RunError, match="must be positive"):
        LoopConfig(**given)


def test_time_instead_of_steps():
    told = []
    config = LoopConfig(seconds=0.3, evaluations=2)
    _, trained = run(config, evaluate=lambda _: {"score": 1.0}, progress=lambda *pair: told.append(pair))
    assert trained.seconds >= 0.3
    assert trained.steps > 1
    assert told[-1] == (3, 3)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(trained.history) >= 1
    assert trained.metrics["score"] == 1.0


@pytest.mark.parametrize("evaluations", [0, 1, 4, 7])
def test_evaluations_records_and_progress(evaluations):
    records, told = [], []
    config = LoopConfig(steps=50, lr=0.01, evaluations=evaluations)
    _, trained = run(
        config,
        evaluate=lambda model: {"score": float(model.weight.detach().sum())},
        log=records.append,
        progress=lambda *pair: told.append(pair),
    )
    scored = [record for record in records if "score" in record]
    assert len(scored) == evaluations
    assert trained.history == scored
    if evaluations:
        assert scored[-1]["step"] == 50
        assert trained.metrics == scored[-1]
    assert told == [(step, 50) for step in range(1, 51)]
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [10, 20, 30, 40, 50]
    assert all(math.isfinite(record["loss"]) for record in steps)
    rates = [record["lr"] for record in steps]
    assert rates == pytest.approx([0.01 * cosine_with_warmup((step - 1) / 50) for step in (10, 20, 30, 40, 50)])


def test_the_model_is_trained_in_train_mode_although_evaluation_leaves_it():
    modes = []

    def watch(model, indices, epoch):
        modes.append(model.training)
        return loss_of(model, indices, epoch)

    def evaluate(model):
        model.eval()
        return {}

    state = start(linear(), config := LoopConfig(steps=12, evaluations=4))
    train(state, watch, len(X), config, ENGINE, lambda _: evaluate(state.model))
    assert all(modes)


def test_weight_decay_is_for_matrices_and_kernels_alone():
    groups = parameter_groups(nn.Sequential(Tiny(), nn.Linear(8, 2)), 0.05)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert [len(group["params"]) for group in groups] == [3, 5]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    frozen = linear().requires_grad_(False)
    assert parameter_groups(frozen, 0.05)[0]["params"] == []


def test_records_tell_the_speed_and_evaluations_how_far_it_is():
    def slow(model, indices, epoch):
        clock.now += 0.5
        with speed.waiting():
            clock.now += 0.5
        return loss_of(model, indices, epoch)

    def evaluate(model):
        clock.now += 100.0
        return {"score": 1.0}

    records = []
    with pytest.MonkeyPatch.context() as patch:
        clock = types.SimpleNamespace(now=0.0)
        clock.perf_counter = lambda: clock.now
        patch.setattr("kdedge.training.clock.time", clock)
        speed = Clock(0.0)
        config = LoopConfig(steps=30, evaluations=3)
        _, trained = run(config, loss_of=slow, evaluate=evaluate, log=records.append, clock=speed)
    steps = [record for record in records if "loss" in record]
    assert [record["images_per_s"] for record in steps] == pytest.approx([32.0] * 3)  # 32 images, a second a step
    assert [record["data_wait"] for record in steps] == pytest.approx([0.5] * 3)
    assert [record["share"] for record in records if "score" in record] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert [record["seconds"] for record in records if "score" in record] == pytest.approx([10.0, 120.0, 230.0])
    assert (trained.images_per_s, trained.data_wait) == pytest.approx((32.0, 0.5))
    assert trained.seconds == pytest.approx(330.0)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["INT", "TERM"]
)
def test_a_signal_ends_the_step_and_saves_it(number, raised):
    count, saved = itertools.count(1), []

    def interrupted(model, indices, epoch):
        if next(count) == 4:
            os.kill(os.getpid(), number)
        return loss_of(model, indices, epoch)

    with pytest.raises(raised):
        run(LoopConfig(steps=9), loss_of=interrupted, save=lambda state: saved.append(state.step))
    assert saved == [4]
    assert next(count) == 5  # no step began after it


def test_a_checkpoint_after_every_evaluation_when_it_is_due_and_at_the_end():
    saved = []
    config = LoopConfig(steps=9, evaluations=2)
    run(config, evaluate=lambda _: {"score": 1.0}, save=lambda state: saved.append(state.step))
    assert saved == [5, 9, 9]
    saved = []
    run(LoopConfig(steps=4, save_every=0.0), save=lambda state: saved.append(state.step))
    assert saved == [1, 2, 3, 4, 4]
