import colorsys
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from kdedge.errors import DataError, RunError
from kdedge.training import make_views as module
from kdedge.training.augment import Augment
from kdedge.training.make_views import apply_parameters, make_views
from kdedge.training.view_parameters import ViewParameters, draw_parameters

NOTHING = Augment(flip=0, rotate=0, shift=0, zoom=(1, 1), jitter=(0, 0, 0, 0), blur=0)
EVERYTHING = Augment(
    rotate_p=0.7, zoom_p=0.7, jitter_p=0.7, jitter=(0.4, 0.4, 0.4, 0.2), blur=0.5, blur_kernel=(5, 9), erase=0.5
)


def noise(count, side, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8))


def scenes(count, side, seed=0):
    """Smooth colours with a little noise, some of it at the limits of the range."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-40, 300, (count, 3, 5, 5)))
    smooth = interpolate(coarse, size=(side, side), mode="bilinear") + torch.from_numpy(
        rng.normal(0, 4, (count, 3, side, side))
    )
    return smooth.clamp(0, 255).to(torch.uint8)


def some(count, **values):
    """Parameters that do nothing but what is named."""
    given = {name: np.asarray(value) for name, value in values.items()}
    return replace(ViewParameters.identity(count), **given)


def gap(found, expected):
    return int((found.int() - torch.as_tensor(expected).int()).abs().max())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("augment", [EVERYTHING, Augment(), Augment.paper()], ids=["everything", "default", "paper"])
@pytest.mark.parametrize("side", [17, 32, 63, 64, 112])
def test_a_view_is_the_same_in_any_batch_on_any_number_of_threads(side, augment, threads):
    images = torch.cat([noise(16, side), scenes(16, side)])
    rng = np.random.default_rng(side)
    ids, views = rng.integers(-(2**63), 2**63 - 1, 32), rng.integers(0, 5, 32)
    torch.set_num_threads(1)
    together = make_views(images, ids, views, augment, 3)
    for count, sizes in ((1, (1, 2, 3, 5)), (2, (1, 32))):
        torch.set_num_threads(count)
        order = rng.permutation(32)
        for size in sizes:
            for start in range(0, 32, size):
                rows = order[start : start + size]
                assert torch.equal(make_views(images[rows], ids[rows], views[rows], augment, 3), together[rows])


@pytest.mark.parametrize("side", [17, 63, 112])
def test_a_view_is_the_same_before_rounding(side, threads):
    """Rounding hides most differences of the last bit, so look before it."""
    images, drawn = noise(32, side), draw_parameters(np.arange(32), np.ones(32, int), EVERYTHING, side)
    torch.set_num_threads(1)
    together = module._transformed(images.clone(), drawn, (5, 9)).clone()
    for count, size in ((1, 1), (1, 3), (2, 32)):
        torch.set_num_threads(count)
        for start in range(0, 32, size):
            rows = slice(start, start + size)
            assert torch.equal(module._transformed(images[rows].clone(), drawn[rows], (5, 9)), together[rows])


def test_a_view_does_not_depend_on_chunks_or_memory_layout(monkeypatch):
    images, ids, views = noise(40, 33), np.arange(40), np.arange(40) % 3
    together = make_views(images, ids, views, EVERYTHING, 0)
    last = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(make_views(last, ids, views, EVERYTHING, 0), together)
    for pixels in (1, 33 * 33 * 7, 1 << 24):
        monkeypatch.setitem(module.CHUNK, "cpu", pixels)
        assert torch.equal(make_views(images, ids, views, EVERYTHING, 0), together)


def test_the_same_key_gives_the_same_bits_whatever_came_before():
    image = noise(1, 32)
    one = np.array([3])
    first = [make_views(image, one, np.array([view]), Augment(), 11) for view in range(1, 8)]
    torch.manual_seed(987)
    torch.rand(13)
    for view in (5, 2, 7, 1):
        make_views(image, np.array([99]), np.array([view]), Augment(), 1)  # other draws in between
        assert torch.equal(make_views(image, one, np.array([view]), Augment(), 11), first[view - 1])


def test_other_keys_give_other_views():
    images = noise(1, 32).expand(9, -1, -1, -1)
    ids, views = np.repeat(np.arange(3), 3), np.tile(np.arange(1, 4), 3)
    found = {view.numpy().tobytes() for seed in range(3) for view in make_views(images, ids, views, Augment(), seed)}
    assert len(found) == 27


@pytest.mark.parametrize("seed", [0, 1, 10**12])
def test_view_0_is_the_image(seed):
    images = noise(5, 32)
    found = make_views(images, np.arange(5), np.array([0, 1, 0, 2, 0]), EVERYTHING, seed)
    assert torch.equal(found[::2], images[::2])
    assert found.data_ptr() != images.data_ptr()


def test_images_are_left_alone():
    images = noise(20, 32)
    before = images.clone()
    found = make_views(images, np.arange(20), np.arange(20), EVERYTHING, 0)
    assert torch.equal(images, before)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert found.is_contiguous()


def test_global_generators_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  the legacy state must survive, too
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    make_views(noise(9, 32), np.arange(9), np.arange(9), EVERYTHING, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_everything_stays_on_the_images_device():
    """The meta device computes nothing, but refuses to mix with tensors on the CPU, as a GPU does."""
    images = torch.empty(9, 3, 32, 32, dtype=torch.uint8, device="meta")
    found = make_views(images, np.arange(9), np.arange(9), EVERYTHING, 0)
    assert found.device.type == "meta"
    assert found.shape == images.shape


def test_no_images():
    assert make_views(noise(0, 32), np.arange(0), np.arange(0), EVERYTHING, 0).shape == (0, 3, 32, 32)


def test_nothing_and_flip_are_exact():
    images, ids, views = noise(6, 33), np.arange(6), np.ones(6, int)
    assert torch.equal(make_views(images, ids, views, NOTHING, 0), images)
    assert torch.equal(make_views(images, ids, views, replace(NOTHING, flip=1), 0), images.flip(-1))


@pytest.mark.parametrize(
    "values", [{"angle": [1e-9, 0]}, {"hue": [1e-12, 1e-12]}, {"sigma": [1e-3, 0]}, {"contrast": [1 + 1e-12, 1]}]
)
def test_next_to_nothing_is_exact(values):
    """The computation itself, not only its being left out, gives the image back."""
    images = noise(2, 64)
    assert torch.equal(apply_parameters(images, some(2, **values), (5, 5)), images)


@pytest.mark.parametrize("side", [32, 63])
@pytest.mark.parametrize("make", [noise, scenes])
def test_affine_as_in_torchvision(side, make):
    images = make(6, side)
    angle, scale = [-45.0, -13.0, 0.0, 7.5, 30.0, 170.0], [1.0, 0.7, 1.25, 0.9, 1.3, 2.0]
    shift = np.array([[0, 0], [0.1, -0.07], [-0.2, 0.05], [0.031, 0.3], [0, 0.11], [0.08, 0.08]])
    found = apply_parameters(images, some(6, angle=angle, scale=scale, shift=shift), (5, 5))
    for row in range(6):
        pixels = [round(float(share) * side) for share in shift[row]]
        mode = InterpolationMode.BILINEAR
        expected = reference.affine(images[row], angle[row], pixels, scale[row], [0.0, 0.0], interpolation=mode)
        assert gap(found[row], expected) <= 1


def test_turns_and_shifts_by_whole_pixels_are_exact():
    images = noise(3, 20)
    found = apply_parameters(images, some(3, angle=[90.0, 180.0, 0], shift=[[0, 0], [0, 0], [0.1, -0.2]]), (5, 5))
    assert torch.equal(found[0], images[0].rot90(-1, (1, 2)))  # clockwise
    assert torch.equal(found[1], images[1].rot90(2, (1, 2)))
    assert torch.equal(found[2, :, :16, 2:], images[2, :, 4:, :18])  # 2 to the right, 4 up
    assert not found[2, :, 16:].any()
    assert not found[2, :, :, :2].any()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("make", [noise, scenes])
def test_colours_as_in_torchvision(name, make):
    images = make(7, 45)
    factors = [-0.5, -0.2, -0.03, 0.01, 0.1, 0.33, 0.5] if name == "hue" else [0.0, 0.4, 0.9, 1.0, 1.1, 1.6, 3.0]
    found = apply_parameters(images, some(7, **{name: factors}), (5, 5))
    adjust = getattr(reference, f"adjust_{name}")
    for row in range(7):
        assert gap(found[row], adjust(images[row], factors[row])) <= 2  # it drops the fractions of grey levels
        if name == "contrast":  # the mean is one of whole grey levels, so there is no exact reference in torchvision
            x = images[row].double().numpy()
            mean = np.floor(0.2989 * x[0] + 0.587 * x[1] + 0.114 * x[2]).mean()
            exact = torch.from_numpy(np.clip(factors[row] * x + (1 - factors[row]) * mean, 0, 255))
        else:
            exact = 255 * adjust(images[row].double() / 255, factors[row])
        assert (found[row] - exact).abs().max() <= 0.51


def test_hue_as_in_the_standard_library():
    corners = np.array(np.meshgrid([0, 1, 128, 255], [0, 90, 254, 255], [0, 7, 128, 255])).reshape(3, 8, 8)
    images = torch.from_numpy(corners.astype(np.uint8))[None].expand(5, -1, -1, -1)
    turns = [-0.5, -0.11, 0.02, 0.25, 0.4]
    found = apply_parameters(images, some(5, hue=turns), (5, 5))
    for row, turn in enumerate(turns):
        for y, x in np.ndindex(8, 8):
            h, s, v = colorsys.rgb_to_hsv(*(corners[:, y, x] / 255))
            expected = 255 * np.array(colorsys.hsv_to_rgb((h + turn) % 1, s, v))
            assert np.abs(found[row, :, y, x].numpy() - expected).max() <= 0.501


@pytest.mark.parametrize("kernel", [(5, 5), (5, 9), (7, 1), (1, 3), (21, 21)])
def test_blur_as_in_torchvision_and_scipy(kernel):
    images, sigma = noise(4, 37), [0.1, 0.6, 1.5, 4.0]
    found = apply_parameters(images, some(4, sigma=sigma), kernel)
    for row in range(4):
        assert gap(found[row], reference.gaussian_blur(images[row], list(kernel), [sigma[row]] * 2)) <= 1
        soft = images[row].double().numpy()
        for axis, length in ((2, kernel[0]), (1, kernel[1])):
            soft = gaussian_filter1d(soft, sigma[row], axis=axis, mode="mirror", radius=length // 2)
        assert np.abs(found[row].numpy() - soft).max() <= 0.501


def test_rectangles():
    images, rng = noise(60, 24).clamp(min=1), np.random.default_rng(0)
    erase = rng.uniform(0.02, 1, (60, 4))
    erase[:3] = [
        [0.999, 0.5, 0, 0.999],
        [0, 0.5, 0.5, 0.5],
        [0.01, 0.3, 0.2, 0.2],
    ]  # nearly full, none, less than a row
    found = apply_parameters(images, some(60, erase=erase), (5, 5))
    for row, (height, width, top, left) in enumerate(erase.tolist()):
        h, w = min(round(height * 24), 23), min(round(width * 24), 23)
        i, j = int(top * (24 - h + 1)), int(left * (24 - w + 1))
        expected = images[row].clone()
        expected[:, i : i + h, j : j + w] = 0
        assert torch.equal(found[row], expected)
    assert not found.all(1).all(2).all(1)[3:].any()


def test_all_transforms_in_their_order():
    """Up to the rounding at the end, and the mean of the contrast, which is one of whole grey levels."""
    images, augment = scenes(24, 64), Augment(blur=1.0, erase=1.0)
    ids, views = np.arange(24), np.ones(24, int)
    found, drawn = make_views(images, ids, views, augment, 5), draw_parameters(ids, views, augment, 5)
    for row in range(24):
        image = (images[row].flip(-1) if drawn.flip[row] else images[row]).double() / 255
        pixels = [round(64 * share) for share in drawn.shift[row].tolist()]
        mode = InterpolationMode.BILINEAR
        image = reference.affine(
            image, float(drawn.angle[row]), pixels, float(drawn.scale[row]), [0.0, 0.0], interpolation=mode
        )
        for name in ("brightness", "contrast", "saturation", "hue"):
            image = getattr(reference, f"adjust_{name}")(image, float(getattr(drawn, name)[row]))
        image = reference.gaussian_blur(image, [5, 5], [float(drawn.sigma[row])] * 2)
        height, width, top, left = drawn.erase[row].tolist()
        h, w = round(64 * height), round(64 * width)
        i, j = int(top * (64 - h + 1)), int(left * (64 - w + 1))
        expected = 255 * reference.erase(image, i, j, h, w, torch.zeros(3, 1, 1, dtype=torch.float64))
        assert (found[row] - expected).abs().max() < 1


@pytest.mark.parametrize(
    "images", [noise(2, 8).float(), noise(2, 8)[:, :2], noise(2, 8)[:, :, :7], noise(2, 8)[0]], ids=str
)
def test_images_must_be_square_uint8(images):
    with pytest.raises(DataError, match="expected uint8"):
        make_views(images, np.arange(2), np.arange(2), Augment(), 0)


def test_lengths_must_agree():
    with pytest.raises(DataError, match="one of each"):
        make_views(noise(2, 8), np.arange(3), np.arange(3), Augment(), 0)


def test_a_kernel_must_fit_the_image():
    with pytest.raises(RunError, match="choose a kernel below 8"):
        make_views(noise(1, 4), np.arange(1), np.ones(1, int), replace(NOTHING, blur=1, blur_kernel=(3, 9)), 0)
    assert make_views(noise(1, 4), np.arange(1), np.ones(1, int), replace(NOTHING, blur=1, blur_kernel=(3, 7)), 0).any()
