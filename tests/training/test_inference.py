"""From pixels to a network's input, wherever they lie, and through the network."""

import numpy as np
import pytest
import torch

from kdedge.preprocess import Preprocess
from kdedge.training.activations import fit_to
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input, run_batches
from tests.training.conftest import pictures, tiny_student

CPU = Engine(torch.device("cpu"))
LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
"""Every grey level in every channel."""

PREPARATIONS = {
    "ImageNet": Preprocess(16),
    "BGR": Preprocess(16, color="bgr"),
    "0 to 1": Preprocess(16, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "as they are": Preprocess(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "odd": Preprocess(16, (103.939, 116.779, 123.68), (57.375, 57.12, 58.395), "bgr"),
}


def images(count=5):
    noise = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    return np.concatenate([LEVELS, noise])


def as_tensor(pixels, *, channels_last):
    """(B, 3, S, S): as views come, contiguous, or as images from the host, whose channels lie together."""
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return planes if channels_last else planes.contiguous()


@pytest.mark.parametrize("preprocess", PREPARATIONS.values(), ids=PREPARATIONS.keys())
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("lies", [True, False], ids=["from channels last", "from contiguous"])
def test_a_tensor_and_an_array_come_to_the_same_bits(preprocess, channels_last, lies):
    engine = Engine(torch.device("cpu"), channels_last=channels_last)
    wanted = preprocess.normalize(images())
    of_array = as_input(images(), preprocess, engine)
    of_tensor = as_input(as_tensor(images(), channels_last=lies), preprocess, engine)
    for found in (of_array, of_tensor):
        assert found.dtype == torch.float32
        assert found.shape == (6, 3, 16, 16)
        assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert (found.numpy() == wanted).all()


@pytest.mark.parametrize("preprocess", PREPARATIONS.values(), ids=PREPARATIONS.keys())
def test_it_is_pixel_less_mean_over_std(preprocess):
    pixels = images()[..., ::-1] if preprocess.color == "bgr" else images()
    wanted = (pixels.astype(np.float64) - preprocess.mean) / preprocess.std
    for given in (images(), as_tensor(images(), channels_last=False)):
        found = as_input(given, preprocess, CPU).numpy().astype(np.float64)
        np.testing.assert_allclose(found, wanted.transpose(0, 3, 1, 2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [8, 24])
def test_images_of_another_size_are_scaled_as_everywhere_else(size):
    preprocess = Preprocess(size, color="bgr")
    wanted = preprocess.normalize(fit_to(pictures(4), preprocess))
    for given in (pictures(4), as_tensor(pictures(4), channels_last=True), as_tensor(pictures(4), channels_last=False)):
        found = as_input(given, preprocess, CPU)
        assert found.shape == (4, 3, size, size)
        assert (found.numpy() == wanted).all()


def test_pixels_are_left_as_they_are():
    given = as_tensor(images(), channels_last=False)
    as_input(given, PREPARATIONS["as they are"], CPU).zero_()
    assert torch.equal(given, as_tensor(images(), channels_last=False))


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_batches_are_put_together_in_order(batch):
    """A linear map of the pixels, so that the reference needs no network."""
    preprocess, told = Preprocess(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), []
    weight = np.random.default_rng(1).normal(size=(3 * 16 * 16, 5))

    def forward(x):
        assert not torch.is_grad_enabled()
        return x.flatten(1) @ torch.from_numpy(weight).float()

    found = run_batches(forward, images(6), preprocess, CPU, batch, lambda done, total: told.append((done, total)))
    wanted = images(6).transpose(0, 3, 1, 2).reshape(7, -1).astype(np.float64) @ weight
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-2)
    assert found.dtype == np.float32
    assert told == [(min(start + batch, 7), 7) for start in range(0, 7, batch)]


def test_a_network_in_eval_mode_does_not_depend_on_the_batch():
    trunk = tiny_student().trunk.eval()
    alone = [run_batches(trunk, pictures(9), Preprocess(16), CPU, size) for size in (1, 2, 9)]
    for found in alone[1:]:
        np.testing.assert_allclose(found, alone[0], rtol=1e-5, atol=1e-6)
