import numpy as np
import pytest

from kdedge.data.demo import member
from kdedge.data.faces import TEMPLATE, Face, encode_png
from kdedge.data.parts import PARTS, SIDE, crop_parts, draw_faces
from kdedge.errors import DataError

RAMP = np.zeros((256, 256, 3), np.uint8)  # red is x, green is y
RAMP[..., 0], RAMP[..., 1] = np.arange(256)[None, :], np.arange(256)[:, None]


def turned(points, angle, scale, middle):
    """Points about (0, 0), turned clockwise on the screen, scaled and moved."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points, float) @ np.array([[cos, sin], [-sin, cos]]) * scale + middle


# eyes 1 apart, nose 0.5 below them, mouth 1 below them
FACE = [(-0.5, -0.5), (0.5, -0.5), (0.1, 0.0), (-0.3, 0.5), (0.3, 0.5)]


@pytest.mark.parametrize("angle", [0.0, -0.5, 0.8, 2.6])
@pytest.mark.parametrize("size", [24, 25, 90])
def test_crops_are_upright_squares_about_their_landmarks(angle, size):
    """Where each pixel of a crop comes from, computed by hand: the ramp's colours are coordinates."""
    landmarks = turned(FACE, angle, 60, (127, 130))
    crops = crop_parts(RAMP, landmarks, size, side=0.5)
    assert crops.shape == (3, size, size, 3)
    offsets = (np.arange(size) - (size - 1) / 2) * 30 / size  # 0.5 eye distances of 60 px
    right, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    for crop, centre in zip(crops, (landmarks[0], landmarks[2], landmarks[3:].mean(0)), strict=True):
        expected = centre + offsets[None, :, None] * right + offsets[:, None, None] * down
        assert np.abs(crop[..., :2] - expected).max() < 1.1


def test_the_size_of_a_turned_head_comes_from_eyes_and_mouth():
    """In profile the eyes are close together; the crop shall not be tiny."""
    profile = turned(np.array(FACE) * [0.2, 1], 0.0, 80, (127, 130))
    width = np.ptp(crop_parts(RAMP, profile, 64, side=0.5)[1, ..., 0].astype(float))
    straight = (92.28495 - 51.59885) / (73.5318 - 38.2946)  # of the template, in eye distances
    assert width == pytest.approx(0.5 * 80 / straight, abs=2)


def test_parts_overlap_as_little_as_documented():
    apart = TEMPLATE[1, 0] - TEMPLATE[0, 0]
    centres = np.array([TEMPLATE[0], TEMPLATE[2], TEMPLATE[3:].mean(0)]) / apart

    def shared(a, b):
        return np.prod(np.clip(SIDE - np.abs(centres[a] - centres[b]), 0, None)) / SIDE**2

    assert (PARTS, shared(0, 2)) == (("eye", "nose", "mouth"), 0)
    assert shared(0, 1) == pytest.approx(1 / 20, abs=0.01)
    assert shared(1, 2) == pytest.approx(1 / 6, abs=0.01)


def test_landmarks_are_checked():
    with pytest.raises(DataError, match=r"\(5, 2\)"):
        crop_parts(RAMP, np.zeros((4, 2)), 8)
    with pytest.raises(DataError, match="both eyes"):
        crop_parts(RAMP, np.array([(5, 5), (5, 5), (6, 7), (4, 9), (7, 9)]), 8)


class Finder:
    """Finds what it is told in each image, by the image's width."""

    min_width = 40.0

    def __init__(self, faces):
        self.faces = faces
        self.asked = []

    def find(self, image):
        self.asked.append(image.shape[1])
        return self.faces(image.shape[1])


def face(middle, scale):
    points = turned(FACE, 0, scale, middle).astype(np.float32)
    return Face((middle[0] - scale, middle[1] - scale, 2 * scale, 2 * scale), points, 0.9)


@pytest.fixture
def images(tmp_path):
    paths = []
    for width in range(100, 110):
        paths.append(tmp_path / f"{width}.png")
        paths[-1].write_bytes(encode_png(RAMP[:100, :width]))
    return paths


def test_the_biggest_face_of_each_image(images):
    """A bigger one that is half outside the image does not count."""
    finder = Finder(lambda width: [face((20, 20), 20), face((50, 60), 30), face((90, 90), 60)])
    found = draw_faces(images, finder, 31, most=4)
    assert (len(finder.asked), found.crops.shape) == (4, (4, 3, 31, 31, 3))
    assert np.abs(found.crops[:, 1, 15, 15, :2].astype(int) - [53, 60]).max() <= 1


def test_seed_decides_which_and_the_rest_is_counted(images):
    images[3].write_bytes(b"text")
    finder = Finder(lambda width: [] if width in (101, 105) else [face((50, 50), 30)])
    steps = []
    everything = draw_faces(images, finder, 8, most=20, progress=lambda done, total: steps.append((done, total)))
    assert (len(everything.paths), everything.faceless, everything.bad) == (7, 2, 1)
    assert steps == [(done, 10) for done in range(1, 8)]
    drawn = [draw_faces(images, finder, 8, most=4, seed=seed).paths for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(
        DataError, match="7 faces at least 40 px wide were found in 10 images, 1 of them unreadable; at least 8"
    ):
        draw_faces(images, finder, 8, least=8)


def test_eyes_are_dark_and_mouths_red_in_photographs(finder, people, tmp_path):
    paths = []
    for number in range(1, 5):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(member(people, f"openpeople/data/curated/P00{number}/assets/studio_portrait.jpg"))
    crops = draw_faces(paths, finder, 48).crops.astype(float)
    middle = crops[:, :, 16:32, 16:32].mean((2, 3))
    assert (middle[:, 0].mean(-1) < middle[:, 1].mean(-1) - 10).all()  # an iris is darker than a nose
    redness = middle[..., 0] / middle[..., 1]
    assert (redness[:, 2] > redness[:, 0]).all()
