"""What a step of pre-training is fed with."""

import numpy as np
import pytest
import torch

from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank, build_bank, fit_to
from kdedge.training.augment import Augment
from kdedge.training.clock import Clock
from kdedge.training.engine import Engine
from kdedge.training.feed import Feed, Live, mix, pixels_of
from kdedge.training.inference import as_input
from kdedge.training.order import Order
from kdedge.training.targets import Standardize
from kdedge.training.teachers import build_teacher
from tests.training.conftest import DIM, SIZE, pictures

ENGINE = Engine(torch.device("cpu"))
PLAIN = Preprocess(SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
RAW = Standardize.identity(DIM)


@pytest.fixture
def teacher(teacher_file):
    return build_teacher(f"onnx:{teacher_file}")


@pytest.fixture
def bank(teacher) -> ViewBank:
    return build_bank(pictures(12), [2] * 12, teacher, Augment(), 0)


def feed(bank, rows, clock=None, **options) -> tuple[Feed, Order]:
    order = Order(options.get("draw") or len(rows), 4, seed=0)
    return Feed(bank, rows, order, RAW, PLAIN, ENGINE, clock or Clock(0.0), **options), order


def pixels(batch: torch.Tensor) -> np.ndarray:
    return batch.permute(0, 2, 3, 1).numpy()


def test_cached_rows_in_the_order_that_was_asked_for(bank):
    rows = np.arange(3, 21)
    fed, order = feed(bank, rows)
    for step in range(6):
        batch, target = fed.take(step)
        chosen = rows[order.at(step)]
        assert (pixels(batch) == bank.views[chosen]).all()
        assert (target.numpy() == bank.activations[chosen]).all()


def test_an_epoch_draws_other_rows(bank):
    fed, order = feed(bank, np.arange(24), draw=8)
    epochs = [np.concatenate([fed.take(2 * epoch + step)[1].numpy() for step in range(2)]) for epoch in range(3)]
    assert order.an_epoch == 2
    assert all(len(np.unique(seen, axis=0)) == 8 for seen in epochs)
    assert not (np.sort(epochs[0], 0) == np.sort(epochs[1], 0)).all()


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_live_teacher_answers_for_the_pixels_that_are_handed_out(bank, teacher, mixup):
    fed, order = feed(bank, np.arange(24), live=Live(teacher, mixup))
    seen = []
    for step in range(2 * order.an_epoch):
        batch, target = fed.take(step)
        shown = pixels(batch)
        assert (shown == shown.round()).all()  # whole grey levels: the teacher saw the same
        answer = teacher.embed(fit_to(shown.astype(np.uint8), teacher.preprocess))
        np.testing.assert_allclose(target.numpy(), answer, rtol=1e-5, atol=1e-5)
        seen += [view.tobytes() for view in shown]
    assert len(set(seen)) == len(seen)  # other ones in the second epoch
    again, _ = feed(bank, np.arange(24), live=Live(teacher, mixup))
    assert torch.equal(again.take(3)[0], feed(bank, np.arange(24), live=Live(teacher, mixup))[0].take(3)[0])


def test_mixed_images_lie_between_the_two():
    shown = torch.from_numpy(pictures(16)).permute(0, 3, 1, 2)
    found = mix(shown, 1.0, (0, 1)).float()
    assert found.dtype == torch.float32
    assert mix(shown, 1.0, (0, 1)).dtype == torch.uint8
    low, high = shown.float().amin(0), shown.float().amax(0)
    assert ((found >= low) & (found <= high)).all()
    assert not torch.equal(mix(shown, 1.0, (0, 2)), mix(shown, 1.0, (0, 1)))
    nearly = mix(shown, 1e-4, (0, 1)).float()  # Beta(0, 0): one of the two
    distance = (nearly[:, None] - shown.float()[None]).abs().amax((2, 3, 4)).amin(1)
    assert float(distance.max()) <= 1.0


def test_waiting_is_counted(bank):
    clock = Clock(0.0)
    fed, _ = feed(bank, np.arange(24), clock=clock)
    assert clock.waited == 0.0
    fed.take(0)
    once = clock.waited
    fed.take(1)
    assert clock.waited > once > 0.0


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_tensor_is_prepared_to_the_same_numbers(bank, color, channels_last):
    wanted = Preprocess(SIZE, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), color)
    engine = Engine(torch.device("cpu"), channels_last=channels_last)
    rows = np.arange(7)
    found = as_input(pixels_of(bank.views, rows, engine.device), wanted, engine)
    assert torch.equal(found, torch.from_numpy(wanted.normalize(bank.views[rows])))
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    smaller = Preprocess(8, wanted.mean, wanted.std, color)
    resized = as_input(pixels_of(bank.views, rows, engine.device), smaller, engine)
    assert torch.equal(resized, torch.from_numpy(smaller.normalize(fit_to(bank.views[rows], smaller))))
