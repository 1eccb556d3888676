import cv2
import numpy as np
import pytest

from kdedge.data.faces import TEMPLATE, Face, FaceFinder, _reading_order, align, align_folder
from kdedge.errors import DataError, ModelError
from kdedge.preprocess import decode


def similarity(angle, scale, shift):
    """(2, 3) matrix from the template's coordinates to the image's."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def dots(points, size, radius):
    """Five bright Gaussian dots on black; the centre of gravity of each is its point."""
    y, x = np.mgrid[: size[1], : size[0]]
    image = np.zeros((size[1], size[0]))
    for px, py in points:
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))
    return np.repeat(np.rint(255 * image.clip(0, 1)).astype(np.uint8)[..., None], 3, 2)


def centre(image, around, reach=7):
    left, top = (np.rint(around) - reach).astype(int)
    part = image[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(float)
    y, x = np.mgrid[: part.shape[0], : part.shape[1]]
    return np.array([left + (part * x).sum() / part.sum(), top + (part * y).sum() / part.sum()])


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.3, 2.4, 5.0, 7.3])
@pytest.mark.parametrize("angle", [-0.6, 0.0, 0.25, 2.0])
def test_landmarks_land_on_the_template(angle, scale):
    to_image = similarity(angle, scale, (0, 0))
    middle = to_image[:, :2] @ [56, 56]
    to_image[:, 2] = [450.3 - middle[0], 380.7 - middle[1]]
    points = TEMPLATE @ to_image[:, :2].T + to_image[:, 2]
    crop = align(dots(points, (901, 760), 2.0 * scale), points)
    assert crop.shape == (112, 112, 3)
    for landmark in TEMPLATE:
        assert np.abs(centre(crop, landmark) - landmark).max() < 0.25


def test_other_size_scales_the_template():
    points = TEMPLATE * 3 + 40
    crop = align(dots(points, (460, 460), 6), points, size=224)
    for landmark in TEMPLATE * 2:
        assert np.abs(centre(crop, landmark, 12) - landmark).max() < 0.5


def test_landmarks_that_are_no_similarity_are_fitted_by_least_squares():
    """Against numpy's least squares on the four unknowns of a similarity."""
    noisy = TEMPLATE * 1.0 + np.random.default_rng(0).normal(0, 3, (5, 2)) + 60
    rows = np.concatenate([np.stack([noisy[:, 0], -noisy[:, 1], np.ones(5), np.zeros(5)], 1),
                           np.stack([noisy[:, 1], noisy[:, 0], np.zeros(5), np.ones(5)], 1)])  # fmt: skip
    a, b, x, y = np.linalg.lstsq(rows, np.concatenate([TEMPLATE[:, 0], TEMPLATE[:, 1]]), rcond=None)[0]
    image = dots(noisy, (240, 240), 3)
    matrix = np.array([[a, -b, x], [b, a, y]])
    flags = cv2.INTER_LINEAR if np.hypot(a, b) < 1 else cv2.INTER_CUBIC
    expected = cv2.warpAffine(image, matrix, (112, 112), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(align(image, noisy).astype(int) - expected).max() <= 1


def test_fine_patterns_of_a_large_face_do_not_alias():
    """A chequerboard of single pixels, seven times too large, is grey and not a moire."""
    y, x = np.mgrid[:900, :900]
    image = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    crop = align(image, TEMPLATE * 7 + 50)
    assert abs(crop.mean() - 127.5) < 2
    assert crop.std() < 8


def test_a_face_over_the_edge_is_mirrored():
    image = np.full((60, 60, 3), 200, np.uint8)
    assert (align(image, TEMPLATE - 60) == 200).all()
    assert (align(image, TEMPLATE * 9 - 400) == 200).all()


def test_landmarks_are_checked():
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(DataError, match=r"\(5, 2\)"):
        align(image, np.zeros((4, 2)))
    with pytest.raises(DataError, match="same point"):
        align(image, np.ones((5, 2)))


def test_reading_order():
    boxes = [(300, 12, 50, 60), (10, 20, 50, 60), (150, 0, 50, 60), (20, 100, 50, 60), (200, 95, 50, 60)]
    faces = [Face(box, np.zeros((5, 2), np.float32), 1.0) for box in boxes]
    expected = [boxes[1], boxes[2], boxes[0], boxes[3], boxes[4]]
    for start in range(5):
        assert [face.box for face in _reading_order(faces[start:] + faces[:start])] == expected


def test_a_detector_that_is_none(tmp_path, color_model):
    with pytest.raises(ModelError, match="cannot load this face detector"):
        FaceFinder(b"not onnx")
    with pytest.raises(ModelError, match="another kind of network"):
        FaceFinder(color_model)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        FaceFinder(tmp_path / "none.onnx")


def test_found_landmarks_follow_a_turned_image(finder, people):
    """A quarter turn and a doubled image move the landmarks as they move the pixels."""
    from kdedge.data.demo import member

    image = decode(member(people, "openpeople/data/curated/P001/assets/studio_portrait.jpg"))
    (face,) = finder.find(image)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    (small,) = finder.find(half)
    assert np.abs(small.landmarks * 2 - face.landmarks).max() < 0.03 * face.box[2]
    assert 0.7 <= face.score <= 1
    assert finder.find(np.zeros((50, 70, 3), np.uint8)) == []


def test_the_detector_is_created_silently(detector, capfd):
    FaceFinder(detector)
    assert capfd.readouterr() == ("", "")


def test_align_folder(finder, people, tmp_path, write_image):
    from kdedge.data.demo import member

    source, out = tmp_path / "photos", tmp_path / "out"
    sheet = member(people, "openpeople/data/curated/P002/assets/emotions_sheet.jpg")
    (source / "Zoë").mkdir(parents=True)
    (source / "Zoë" / "sheet.jpg").write_bytes(sheet)
    write_image("photos/wall.png", size=(90, 60))
    (source / "text.jpg").write_text("no image")
    steps = []
    done = align_folder(source, out, finder, most=3, progress=lambda i, n: steps.append((i, n)))
    assert [path.relative_to(out).as_posix() for path in done.written] == [f"Zoë/sheet-0{i}.png" for i in range(3)]
    assert all(decode(path).shape == (112, 112, 3) for path in done.written)
    assert done.faceless == (source / "wall.png",)
    assert [path for path, _ in done.bad] == [source / "text.jpg"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(DataError, match="inside"):
        align_folder(source, source / "crops", finder)


def test_same_stem_twice_keeps_both(finder, people, tmp_path):
    from kdedge.data.demo import member

    portrait = member(people, "openpeople/data/curated/P003/assets/studio_portrait.jpg")
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.jpeg"):
        (tmp_path / "in" / name).write_bytes(portrait)
    written = align_folder(tmp_path / "in", tmp_path / "out", finder).written
    assert [path.name for path in written] == ["a.jpeg-00.png", "a.jpg-00.png"]
