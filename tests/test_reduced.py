"""JPEGs decoded at a reduced scale: how far what the network gets, and says, may lie from that of the whole image."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from kdedge.data import demo
from kdedge.decode import claimed_size, decode
from kdedge.errors import DataError
from kdedge.preprocess import SPARE, Preprocess
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.models import zoo_models

BOUNDS = {64: (1.5, 12), 112: (0.8, 5), 224: (0.6, 4)}
"""Size of the input: mean and 99th percentile by which a value (0-255) of a photograph may move."""


def jpeg(image: np.ndarray, *options: int) -> bytes:
    """RGB (H, W, 3) or grey (H, W) as a JPEG."""
    done, data = cv2.imencode(".jpg", image[..., ::-1] if image.ndim == 3 else image, [*options])
    assert done
    return data.tobytes()


def scene(height: int, width: int) -> np.ndarray:
    """Smooth colours with edges and some grain, as photographs have."""
    rng = np.random.default_rng(height)
    image = cv2.resize(
        rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for number in range(12):
        corner = rng.integers(0, [width, height])
        cv2.circle(
            image, tuple(map(int, corner)), int(height / (6 + number)), tuple(map(int, rng.integers(0, 256, 3))), -1
        )
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """Large photographs of people who do not exist."""
    from zipfile import ZipFile

    with ZipFile(demo.fetch(demo.OPENPEOPLE)) as wheel:
        names = [name for name in sorted(wheel.namelist()) if name.endswith(".jpg")]
        return [wheel.read(name) for name in names[::10]]


@pytest.mark.parametrize("size", BOUNDS)
@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_photographs_hardly_change(photographs: list[bytes], size: int, mode: str) -> None:
    plain = Preprocess(size, resize=mode)
    mean, most = BOUNDS[size]
    for data in photographs:
        width, height = claimed_size(data)
        assert min(width, height) >= 2 * SPARE * size or size == 224, "else nothing is tested"
        off = np.abs(plain.load(data).astype(int) - plain.fit(decode(data)).astype(int))
        assert off.mean() < mean
        assert np.percentile(off, 99) <= most


def test_answers_hardly_change(photographs: list[bytes]) -> None:
    with Classifier(zoo_models()["cifar10"], threads=1) as classifier:
        pre = classifier.card.preprocess
        reduced = classifier.probabilities(pre.normalize([pre.load(data) for data in photographs]))
        whole = classifier.probabilities(pre.normalize([pre.fit(decode(data)) for data in photographs]))
    assert np.abs(reduced - whole).max() < 0.1  # an int8 network answers in steps
    assert (reduced.argmax(1) == whole.argmax(1)).mean() >= 0.8


@pytest.mark.parametrize(
    "make",
    [
        lambda image: jpeg(image),
        lambda image: jpeg(image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        lambda image: jpeg(image[..., 1]),
        lambda image: jpeg(image, cv2.IMWRITE_JPEG_QUALITY, 60),
        lambda image: jpeg(image, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        lambda image: jpeg(image, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    ],
    ids=["baseline", "progressive", "grey", "quality 60", "4:4:4", "restart markers"],
)
@pytest.mark.parametrize("shape", [(1203, 1601), (2000, 901)])
def test_kinds_of_jpeg(make: Callable[[np.ndarray], bytes], shape: tuple[int, int]) -> None:
    data = make(scene(*shape))
    plain = Preprocess(100)
    off = np.abs(plain.load(data).astype(int) - plain.fit(decode(data)).astype(int))
    assert off.mean() < 1.5
    assert np.percentile(off, 99) <= 16  # at edges sharper than a lens makes them


def test_the_finest_stripes_stay_within_bounds() -> None:
    """The worst there is: a pattern of one pixel, which both ways make grey, but for what falls beside the grid."""
    image = np.zeros((1504, 2000, 3), np.uint8)
    for period in (1, 2, 3):
        image[:, (np.arange(2000) // period) % 2 == 0] = 255
        plain = Preprocess(112)
        off = np.abs(plain.load(jpeg(image)).astype(int) - plain.fit(decode(jpeg(image))).astype(int))
        assert off.mean() < 20


@pytest.mark.parametrize("least", [None, 10, 99, 100, 101, 200, 399, 400, 401, 5000])
def test_never_smaller_than_asked_for(least: int | None) -> None:
    data = jpeg(scene(800, 1000))
    found = decode(data, least)
    assert found.shape[0] >= min(least or 800, 800)
    assert found.shape[0] in (800, 400, 200, 100)
    if least and least <= 100:
        assert found.shape[0] == 100
    assert abs(found.mean() - decode(data).mean()) < 2


def test_orientation_is_kept() -> None:
    """EXIF orientation 6: the picture was taken with the camera turned."""
    plain = jpeg(scene(800, 1200))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    whole = decode(turned)
    assert whole.shape == (1200, 800, 3)
    pre = Preprocess(60)
    off = np.abs(pre.load(turned).astype(int) - pre.fit(whole).astype(int))
    assert off.mean() < 1.0
    assert np.abs(pre.load(turned).astype(int) - pre.load(plain).astype(int)).mean() > 5, "else nothing was turned"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_as_at_full_scale(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    Pillow.fromarray(scene(600, 800)).save(file, "JPEG", quality=95, exif=exif)
    pre = Preprocess(40)
    off = np.abs(pre.load(file.getvalue()).astype(int) - pre.fit(decode(file.getvalue())).astype(int))
    assert off.mean() < 1.5


@pytest.mark.parametrize("mode", ["CMYK", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_other_colours(mode: str, progressive: bool) -> None:
    file = BytesIO()
    Pillow.fromarray(scene(801, 1203)).convert(mode).save(file, "JPEG", quality=95, progressive=progressive)
    pre = Preprocess(60)
    assert decode(file.getvalue(), 180).shape[0] < 801
    off = np.abs(pre.load(file.getvalue()).astype(int) - pre.fit(decode(file.getvalue())).astype(int))
    assert off.mean() < 2  # a CMYK file keeps all its colour, so edges are sharper


def test_other_formats_are_decoded_whole(tmp_path: Path) -> None:
    image = scene(900, 900)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    assert decode(tmp_path / "a.png", 10).shape == (900, 900, 3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
def test_a_cut_file_is_refused_at_every_scale(share: float) -> None:
    data = jpeg(scene(900, 1200))
    for least in (None, 100):
        with pytest.raises(DataError, match=r"truncated|not an image"):
            decode(data[: int(share * len(data))], least)


def test_a_thumbnail_is_no_end() -> None:
    """A cut file whose EXIF data hold a whole JPEG, end marker and all."""
    small = jpeg(scene(60, 80))
    exif = b"Exif\0\0" + small
    data = jpeg(scene(900, 1200))
    whole = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert decode(whole, 100).shape[0] in (112, 113, 225, 450)
    with pytest.raises(DataError, match="truncated"):
        decode(whole[:-400])
