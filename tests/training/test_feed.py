"""What a step of pre-training is fed with."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdedge.preprocess import Preprocess
from kdedge.training import feed as module
from kdedge.training.activations import ViewBank, build_bank, fit_to
from kdedge.training.augment import Augment
from kdedge.training.clock import Clock
from kdedge.training.engine import Engine
from kdedge.training.feed import Feed, Live, mix, pixels_of
from kdedge.training.inference import as_input
from kdedge.training.order import Order
from kdedge.training.targets import Standardize
from kdedge.training.teachers import build_teacher
from tests.training.conftest import DIM, PREPROCESS, SIZE, pictures, write_teacher

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


def test_targets_are_made_of_the_activations(bank, teacher):
    targets = Standardize.fit(bank.activations[:])
    order = Order(24, 4, seed=0)
    for live in (None, Live(teacher)):
        fed = Feed(bank, np.arange(24), order, targets, PLAIN, ENGINE, Clock(0.0), live=live)
        batch, target = fed.take(2)
        seen = bank.activations[order.at(2)] if live is None else teacher.embed(pixels(batch).astype(np.uint8))
        wanted = (seen.astype(np.float64) - targets.mean) / targets.scale
        np.testing.assert_allclose(target.numpy(), wanted, rtol=1e-3, atol=1e-4)
        assert target.dtype == torch.float32


def test_what_is_drawn_depends_on_the_epoch_alone(bank):
    """A run that is resumed in the middle of an epoch, or asks in any order, draws the same."""
    rows = np.arange(5, 23)
    fed, order = feed(bank, rows, draw=8)
    found = {step: fed.take(step)[1].numpy() for step in (5, 0, 4, 1)}
    for step, target in found.items():
        assert (feed(bank, rows, draw=8)[0].take(step)[1].numpy() == target).all()
    allowed = {row.tobytes() for row in bank.activations[rows]}
    assert {row.tobytes() for target in found.values() for row in target} <= allowed
    everything, order = feed(bank, rows, draw=18)
    assert (everything.take(1)[1].numpy() == bank.activations[rows[order.at(1)]]).all()


def test_every_row_is_drawn_in_some_epoch(bank):
    fed, _ = feed(bank, np.arange(24), draw=8)
    seen = {row.tobytes() for step in range(40) for row in fed.take(step)[1].numpy()}
    assert seen == {row.tobytes() for row in bank.activations[:]}


def test_a_live_teacher_of_another_size_sees_the_same_views_scaled(bank, tmp_path):
    file = write_teacher(tmp_path / "small.onnx", 1, replace(PREPROCESS, size=8), size=8)
    small = build_teacher(f"onnx:{file}")
    batch, target = feed(bank, np.arange(24), live=Live(small))[0].take(1)
    answer = small.embed(fit_to(pixels(batch).astype(np.uint8), small.preprocess))
    np.testing.assert_allclose(target.numpy(), answer, rtol=1e-5, atol=1e-5)


def test_a_batch_prepared_ahead_is_the_batch_that_is_asked_for(bank, teacher):
    """As on a GPU, where the next step's batch is made while this one is used."""
    for live in (None, Live(teacher, 0.4)):
        plain, ahead = feed(bank, np.arange(24), live=live)[0], feed(bank, np.arange(24), live=live)[0]
        ahead._ahead = ThreadPoolExecutor(1)
        for step in (0, 1, 2, 3, 4, 5, 6, 7, 8):
            for found, wanted in zip(ahead.take(step), plain.take(step), strict=True):
                assert torch.equal(found, wanted)
        ahead.close()


def test_each_mixed_image_is_one_weight_between_two_images():
    """The weight by least squares, for each other image that it might have been mixed with; the right one leaves rounding."""
    shown = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 3, 6, 6), np.uint8))
    found = mix(shown, 1.0, (0, 1)).reshape(8, -1).numpy().astype(np.float64)
    flat, taken = shown.reshape(8, -1).numpy().astype(np.float64), []
    for own, image in zip(flat, found, strict=True):
        weights = [((image - other) @ (own - other)) / max(((own - other) ** 2).sum(), 1e-9) for other in flat]
        errors = [np.abs(w * own + (1 - w) * other - image).max() for w, other in zip(weights, flat, strict=True)]
        assert min(errors) <= 0.6
        taken.append(weights[int(np.argmin(errors))])
    assert min(taken) >= -0.01
    assert max(taken) <= 1.01
    assert sum(0.1 < weight < 0.9 for weight in taken) >= 4  # they are mixed indeed
    assert torch.equal(mix(shown, 1.0, (0, 1)), mix(shown, 1.0, (0, 1)))


def test_every_step_and_process_mixes_in_its_own_way(bank, teacher, monkeypatch):
    keys = []
    monkeypatch.setattr(module, "mix", lambda shown, alpha, key: keys.append((alpha, key)) or shown)
    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        order = Order(24, 4, seed, rank=rank, world=2)
        fed = Feed(bank, np.arange(24), order, RAW, PLAIN, ENGINE, Clock(0.0), live=Live(teacher, 0.4))
        for step in range(8):  # of two epochs
            fed.take(step)
    assert {alpha for alpha, _ in keys} == {0.4}
    assert len({key for _, key in keys}) == len(keys) == 24


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_weights_are_of_the_beta_distribution(alpha):
    """Of pairs of black and white images half are of one colour, the others as bright as the weight.

    So brightness has the mean 1/2 and the variance (1/4 + 1 / (4 (2 alpha + 1))) / 2, Beta's own being the second term.
    """
    shown = torch.zeros((20_000, 3, 1, 1), dtype=torch.uint8)
    shown[::2] = 255
    bright = mix(shown, alpha, (0, 1)).double()[:, 0, 0, 0] / 255
    assert float(bright.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(bright.var()) == pytest.approx(0.125 + 0.125 / (2 * alpha + 1), abs=0.005)


def test_mixing_leaves_the_images_as_they_are_and_no_grey_level_out():
    shown = torch.full((64, 3, 2, 2), 255, dtype=torch.uint8)
    assert torch.equal(mix(shown, 0.4, (0, 1)), shown)  # white with white is white, not black by a rounding above 255
    before = shown.clone()
    shown[::2] = 0
    copy = shown.clone()
    mix(shown, 0.4, (0, 1))
    assert torch.equal(shown, copy)
    assert not torch.equal(shown, before)


class Slow:
    """Views that lie ready, but far away."""

    def __init__(self, images: np.ndarray, seconds: float) -> None:
        self.images, self.shape, self.seconds = images, images.shape, seconds

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows):
        time.sleep(self.seconds)
        return self.images[rows]


def test_the_time_that_data_take_is_the_time_that_was_waited(bank):
    clock = Clock(0.0)
    slow = replace(bank, views=Slow(bank.views[:], 0.02))
    fed, order = feed(slow, np.arange(24), clock=clock)
    for step in range(3):
        batch, _ = fed.take(step)
        assert (pixels(batch) == bank.views[order.at(step)]).all()
    waited = clock.waited
    assert waited >= 0.06
    time.sleep(0.02)  # a step
    assert clock.waited == waited
