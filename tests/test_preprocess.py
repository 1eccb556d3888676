"""The one preprocessing, against an independent float64 reference and a pinned tensor."""

import struct
import zlib
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from kdedge import preprocess
from kdedge.errors import CardError, DataError
from kdedge.preprocess import Preprocess, decode, resize


def pattern(height: int = 30, width: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth image whose three channels, rows and columns all differ."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 5) % 256, (y * 7 + 20) % 256, ((x + y) * 3) % 256], -1).astype(np.uint8)


def encoded(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    return encoded(Pillow.fromarray(pixels), "PNG")


def area_reference(image: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Exact area averaging in float64: each target pixel is the mean of the source area under it."""

    def weights(length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        edges = np.arange(size + 1) * length / size
        low, high = edges[:-1, None], edges[1:, None]
        cells = np.arange(length)[None]
        return np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None) / (length / size)

    rows, columns = weights(image.shape[0]), weights(image.shape[1])
    return np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)


@pytest.mark.parametrize("mode", ["crop", "squash"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_tensor_follows_the_formula(mode: Any, color: Any) -> None:
    image = pattern()
    mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
    tensor = Preprocess(10, mean, std, color, mode)([image])
    cut = image[:, 9:39] if mode == "crop" else image  # 30 of 48 columns, the middle ones
    pixels = area_reference(cut, 10)
    planes = pixels[..., ::-1] if color == "bgr" else pixels
    expected = ((planes - mean) / std).transpose(2, 0, 1)[None]
    assert tensor.shape == (1, 3, 10, 10)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.abs(tensor - expected).max() <= 0.51 / 40.0  # pixels are rounded to whole numbers on the way


def test_golden_tensor() -> None:
    """Must never change: every student that was ever exported was trained on exactly these numbers."""
    tensor = Preprocess(8)([pattern(24, 40)])
    pixels = np.rint(tensor[0].transpose(1, 2, 0) * preprocess.IMAGENET_STD + np.asarray(preprocess.IMAGENET_MEAN))
    assert sha256(pixels.astype(np.uint8).tobytes()).hexdigest() == GOLDEN_PIXELS
    np.testing.assert_allclose(tensor[0, :, 3, 5], GOLDEN_VALUES, rtol=0, atol=2e-6)
    assert tensor.astype(np.float64).sum() == pytest.approx(GOLDEN_SUM, abs=1e-3)


GOLDEN_PIXELS = "3f513b18f047f2dfc824d604a848a82b63d82325f380f7dd855fdd8f0b97e42a"
GOLDEN_VALUES = (-0.06293352, -0.46008402, -0.02666664)  # of the pixel (120, 90, 102)
GOLDEN_SUM = -58.11394


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = pattern(32, 32)
    plain = Preprocess(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(plain([image])[0].transpose(1, 2, 0), image)
    assert resize(image, 32) is image


def test_enlarging_interpolates_between_neighbours() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    wide = resize(image, 8)
    assert wide.shape == (8, 8, 3)
    assert (np.diff(wide[0, :, 0].astype(int)) >= 0).all()
    assert set(wide[:, 0, 0]) == {0}
    assert set(wide[:, -1, 0]) == {200}


def test_shapes_a_batch_may_have() -> None:
    plain = Preprocess(8)
    assert plain([]).shape == (0, 3, 8, 8)
    assert plain([pattern(), pattern(9, 200), pattern(3, 1)]).shape == (3, 3, 8, 8)
    with pytest.raises(DataError, match=r"\(B, 8, 8, 3\), got \(1, 7, 8, 3\)"):
        plain.normalize(np.zeros((1, 7, 8, 3), np.uint8))


def test_round_trip_and_refusals() -> None:
    plain = Preprocess(96, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr", "squash")
    assert Preprocess.from_dict(plain.to_dict()) == plain
    for change in (
        {"size": 0},
        {"std": [1, 0, 1]},
        {"mean": [1, 2]},
        {"color": "hsv"},
        {"resize": "pad"},
        {"std": None},
    ):
        with pytest.raises(CardError):
            Preprocess.from_dict({**plain.to_dict(), **change})
    with pytest.raises(CardError):
        Preprocess.from_dict({"size": 8})


def test_path_and_bytes_decode_alike_to_rgb(tmp_path: Path) -> None:
    file = tmp_path / "größe 大きさ.png"
    file.write_bytes(png(pattern()))
    np.testing.assert_array_equal(decode(file), pattern())
    np.testing.assert_array_equal(decode(str(file)), pattern())
    np.testing.assert_array_equal(decode(file.read_bytes()), pattern())
    assert decode(file).flags.c_contiguous


def test_grey_palette_and_16_bit_become_8_bit_rgb() -> None:
    grey = pattern()[..., 0]
    three = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(decode(png(grey)), three)
    np.testing.assert_array_equal(decode(png(grey.astype(np.uint16) * 257)), three)
    deep = pattern().astype(np.uint16) * 257
    done, data = cv2.imencode(".png", deep[..., ::-1])
    assert done
    np.testing.assert_array_equal(decode(data.tobytes()), pattern())
    palette = Pillow.fromarray(pattern()).convert("P")
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_on_white(kind: str, mode: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (30, 1))
    image = Pillow.fromarray(np.dstack([pattern(), alpha])).convert(mode)
    data = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    white = Pillow.new("RGBA", image.size, "white")
    white.alpha_composite(Pillow.open(BytesIO(data)).convert("RGBA"))
    expected = np.asarray(white.convert("RGB")).astype(int)
    assert np.abs(decode(data).astype(int) - expected).max() <= 1
    assert (decode(data)[:, 0] == 255).all()


def test_transparent_palette_and_16_bit_lie_on_white() -> None:
    palette = Pillow.fromarray(pattern()).convert("P")
    clear = palette.getpixel((0, 0))
    pixels = decode(encoded(palette, "PNG", transparency=clear))
    assert (pixels[np.asarray(palette) == clear] == 255).all()
    deep = np.dstack([pattern()[..., ::-1], np.full((30, 48), 0, np.uint8)]).astype(np.uint16) * 257
    done, data = cv2.imencode(".png", deep)
    assert done
    assert (decode(data.tobytes()) == 255).all()


def test_cmyk_jpeg_looks_as_pillow_sees_it() -> None:
    data = encoded(Pillow.fromarray(pattern()).convert("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Pillow.open(BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data).astype(int) - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((48, 32, 3), np.uint8)  # the four quarters differ, so every turn and mirroring shows
    upright[:24, :16], upright[:24, 16:], upright[24:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    undo = {
        1: None,
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_90,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }[orientation]
    stored = Pillow.fromarray(upright) if undo is None else Pillow.fromarray(upright).transpose(undo)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    assert pixels.shape == upright.shape
    assert np.abs(pixels[4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() < 12


@pytest.mark.parametrize(
    "options", [{"kind": "JPEG"}, {"kind": "JPEG", "progressive": True}, {"kind": "PNG"}, {"kind": "WEBP"}]
)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_truncated_images_are_refused(options: dict[str, Any], share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 90, 3)).astype(np.uint8)
    data = encoded(Pillow.fromarray(noise), **options)
    assert decode(data).shape == (80, 90, 3)
    with pytest.raises(DataError, match="truncated"):
        decode(data[: int(len(data) * share)])


def test_an_embedded_thumbnail_does_not_hide_a_truncation() -> None:
    thumbnail = encoded(Pillow.fromarray(pattern(16, 16)), "JPEG")
    data = encoded(Pillow.fromarray(pattern(200, 300)), "JPEG", exif=b"Exif\x00\x00" + thumbnail)
    assert decode(data).shape == (200, 300, 3)
    with pytest.raises(DataError, match="truncated"):
        decode(data[: len(data) - 100])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_follows_an_image_is_allowed(kind: str) -> None:
    """Phones append a film to their motion photos."""
    data = encoded(Pillow.fromarray(pattern()), kind)
    assert decode(data + bytes(100_000)).shape == (30, 48, 3)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no image at all\n")
    empty = tmp_path / "empty.png"
    empty.touch()
    for source in (text, empty, tmp_path / "absent.png", tmp_path):
        with pytest.raises(DataError, match=source.name):
            decode(source)
    for data in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\x00", bytes(50)):
        with pytest.raises(DataError):
            decode(data)
    with pytest.raises(DataError, match="not the path"):
        decode("a\0b.png")


def test_pixel_cap_is_read_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="20000x20000 is 400 megapixels, above the cap of 50"):
        decode(b"\x89PNG\r\n\x1a\n" + body)


def test_pixel_cap_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDEDGE_MAX_PIXELS", "1439")
    with pytest.raises(DataError, match="48x30"):
        decode(png(pattern()))
    monkeypatch.setenv("KDEDGE_MAX_PIXELS", "1440")
    assert decode(png(pattern())).shape == (30, 48, 3)
    monkeypatch.setenv("KDEDGE_MAX_PIXELS", "many")
    with pytest.raises(DataError, match="many"):
        decode(png(pattern()))


def test_tables_hold_the_formula() -> None:
    """Every pixel value in every channel, in both orders, is (pixel - mean) / std."""
    values = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3)
    values[..., 1], values[..., 2] = values[..., 1][::-1], values[..., 2].T
    for color in ("rgb", "bgr"):
        plain = Preprocess(16, (1.5, 127.0, 255.0), (0.5, 57.0, 300.0), color=color)
        found = plain.normalize([values])[0]
        ordered = (values if color == "rgb" else values[..., ::-1]).astype(np.float64)
        wanted = (ordered - plain.mean) / plain.std
        np.testing.assert_allclose(found, wanted.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)


def test_memory_that_is_given_is_filled() -> None:
    plain, pictures = Preprocess(8), np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    room = np.full((3, 3, 8, 8), np.nan, np.float32)
    assert plain.normalize(pictures, room) is room
    np.testing.assert_array_equal(room, plain.normalize(pictures))
