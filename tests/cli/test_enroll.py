"""``kdedge enroll`` and ``kdedge gallery``."""

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from kdedge.cli.enroll import enroll
from kdedge.cli.gallery import app as gallery_app
from kdedge.data import faces
from kdedge.data.faces import Face
from kdedge.errors import KdedgeError
from kdedge.runtime.gallery import Gallery
from tests.conftest import COLORS
from tests.runtime.knowing import OTHERS, painted, write_knowing, write_pictures
from tests.runtime.test_classifier import write_two_outputs

app = typer.Typer(rich_markup_mode=None)
app.command()(enroll)
app.add_typer(gallery_app, name="gallery")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, color_images: Path) -> Path:
    return write_knowing(tmp_path_factory.mktemp("model") / "student.onnx", color_images)


@pytest.fixture
def kdedge(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the model, with galleries in a folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("KDEDGE_GALLERY", raising=False)

    def run(*arguments: object) -> Result:
        words = [str(word) for word in arguments]
        return CliRunner().invoke(app, words if "--model" in words else [*words, "--model", str(model)])

    return run


def error(done: Result) -> str:
    """The one sentence that ``kdedge`` prints."""
    assert isinstance(done.exception, KdedgeError), (done.output, done.exception)
    return str(done.exception)


def test_a_class_comes_and_goes(kdedge, tmp_path: Path) -> None:
    yellow = write_pictures(tmp_path / "yellow", OTHERS["yellow"], 4)
    assert "nobody is enrolled" in kdedge("gallery", "list").output
    done = kdedge("enroll", "yellow", yellow / "0.png", yellow / "[12].png", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["name"], told["images"], told["added"], told["repeated"]) == ("yellow", 3, 3, 0)
    assert set(told) >= {"within", "nearest", "similarity", "warnings", "gallery"}
    assert Path(told["gallery"]).parent == tmp_path / "data" / "kdedge" / "galleries"
    words = kdedge("enroll", "yellow", yellow).stdout
    assert "yellow: 4 images, 1 new, 3 known already" in words
    assert "most like" in words

    (row,) = json.loads(kdedge("gallery", "list", "--json").stdout)["classes"]
    assert (row["name"], row["images"], row["nearest"]) == ("yellow", 4, told["nearest"])
    assert "yellow" in kdedge("gallery", "list").stdout
    assert len(json.loads(kdedge("gallery", "show", "yellow").stdout)["fingerprints"]) == 4
    assert json.loads(kdedge("gallery", "show").stdout)["classes"] == ["yellow"]
    assert "'mauve' is not enrolled" in error(kdedge("gallery", "show", "mauve"))

    again = json.loads(kdedge("enroll", "yellow", yellow / "0.png", "--replace", "--json").stdout)
    assert (again["images"], again["within"]) == (1, None)
    assert "'mauve' is not enrolled; the gallery knows yellow" in error(kdedge("gallery", "remove", "yellow", "mauve"))
    gone = json.loads(kdedge("gallery", "remove", "yellow", "--json").stdout)
    assert gone["left"] == []
    assert "'yellow' is not enrolled" in error(kdedge("gallery", "remove", "yellow"))
    assert "say --yes" in error(kdedge("gallery", "clear"))
    assert Path(told["gallery"]).exists()
    assert kdedge("gallery", "clear", "--yes").exit_code == 0
    assert not Path(told["gallery"]).exists()
    assert "nobody is enrolled" in error(kdedge("gallery", "remove", "yellow"))


def test_pictures_that_cannot_be_used_are_named(kdedge, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "cyan", OTHERS["cyan"], 2)
    (folder / "bad.png").write_text("no image")
    done = kdedge("enroll", "cyan", folder, "--gallery", tmp_path / "g.json")
    assert done.exit_code == 2
    assert "cyan: 2 images" in done.stdout
    assert "left out: " in done.stderr
    assert "error: 1 of 3 could not be used." in done.stderr
    only = kdedge("enroll", "more", folder / "bad.png", "--gallery", tmp_path / "g.json")
    assert "none of the 1 images can be used; nothing was enrolled" in error(only)
    assert "no image matches" in error(kdedge("enroll", "more", str(tmp_path / "*.jpg")))
    assert list(Gallery.read(tmp_path / "g.json").classes) == ["cyan"]


def test_mistakes_are_one_sentence(kdedge, tmp_path: Path, color_model: Path) -> None:
    folder = write_pictures(tmp_path / "cyan", OTHERS["cyan"], 2)
    assert "one of the model's own classes" in error(kdedge("enroll", "red", folder))
    assert "images of no class" in error(kdedge("enroll", "unknown", folder))
    assert "gives no embedding" in error(kdedge("enroll", "cyan", folder, "--model", color_model))
    old = write_two_outputs(tmp_path / "old.onnx")
    assert "calibrate --known DIR" in error(kdedge("enroll", "cyan", folder, "--model", old))
    assert kdedge("enroll", "cyan").exit_code == 2


def test_a_look_alike_is_warned_of(kdedge, tmp_path: Path) -> None:
    kdedge("enroll", "yellow", write_pictures(tmp_path / "a", OTHERS["yellow"], 4))
    done = kdedge("enroll", "gold", write_pictures(tmp_path / "b", OTHERS["yellow"], 4, seed=1))
    assert done.exit_code == 0
    assert "warning: 4 of 4 images look like a class that is there already, most like 'yellow'" in done.stderr
    same = kdedge("enroll", "gold", tmp_path / "a" / "0.png")
    assert "1 of the images of 'gold' is enrolled as 'yellow' already" in error(same)


def test_a_doubtful_threshold_is_warned_of(kdedge, tmp_path: Path, color_images: Path) -> None:
    """Trained classes given as strangers, and too few of them."""
    few = write_pictures(tmp_path / "few", OTHERS["yellow"], 3)
    done = kdedge("gallery", "calibrate", "--unknown", few)
    assert done.exit_code == 0
    assert "3 images of strangers promise 25.0% at most, not the 1.0% asked for; give 99 or more" in done.stderr
    write_pictures(tmp_path / "red" / "red", COLORS["red"], 3)
    own = write_pictures(tmp_path / "own", COLORS["red"], 9)
    done = kdedge("gallery", "calibrate", "--unknown", own, "--known", tmp_path / "red", "--false-accept", 0.1)
    assert "of the known images pass, most of what the model knows is called unknown" in done.stderr
    assert "of strangers promise" not in done.stderr


def test_a_threshold_that_export_knows_to_be_too_high(kdedge, tmp_path: Path, color_images: Path) -> None:
    choices = [{"threshold": -1.0, "known_accept": 0.25, "false_accept": 0.01, "known": 9, "strangers": 9}]
    strict = write_knowing(tmp_path / "strict.onnx", color_images, choices=choices)
    cyan = write_pictures(tmp_path / "cyan", OTHERS["cyan"], 9)
    words = ("gallery", "calibrate", "--unknown", cyan, "--false-accept", 0.1)
    assert "at export no more than 25.0% of the images" in kdedge(*words, "--model", strict).stderr
    assert "at export" not in kdedge(*words).stderr


def test_the_threshold_that_stays_is_told(kdedge, tmp_path: Path) -> None:
    yellow = write_pictures(tmp_path / "yellow", OTHERS["yellow"], 4)
    kdedge("enroll", "yellow", yellow)
    assert "stays" not in kdedge("gallery", "remove", "yellow").stderr
    kdedge("enroll", "yellow", yellow)
    kdedge("gallery", "calibrate", "--unknown", write_pictures(tmp_path / "cyan", OTHERS["cyan"], 4))
    assert "stays; 'kdedge gallery clear' forgets it, too" in kdedge("gallery", "remove", "yellow").stderr


def test_calibrate(kdedge, tmp_path: Path) -> None:
    for name, color in COLORS.items():
        write_pictures(tmp_path / "known" / name, color, 6, seed=3)
    strangers = write_pictures(tmp_path / "strangers" / "deep", OTHERS["cyan"], 30)
    done = kdedge("gallery", "calibrate", "--known", tmp_path / "known", "--unknown", strangers.parent, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)["rejection"]
    assert said["images"] == {"known": 18, "strangers": 30}
    assert said["false_accept"] == pytest.approx(1 / 31)  # 1 % cannot be promised with so few
    assert said["known_accept"] == 1.0
    words = kdedge("gallery", "calibrate", "--unknown", strangers, "--false-accept", 0.1).stdout
    assert "at most 10.0% of strangers pass (30 images)" in words
    assert "threshold" in kdedge("gallery", "list").stdout
    assert "give --unknown DIR" in error(kdedge("gallery", "calibrate"))
    assert "strangers" in error(kdedge("gallery", "calibrate", "--known", tmp_path / "known"))
    assert "between 0 and 1" in error(kdedge("gallery", "calibrate", "--unknown", strangers, "--false-accept", 1.5))
    late = kdedge("enroll", "yellow", write_pictures(tmp_path / "y", OTHERS["yellow"], 3))
    assert "warning: the threshold was set before 'yellow' was enrolled" in late.stderr
    assert "set before yellow was enrolled" in kdedge("gallery", "list").stdout


class Finder:
    """Finds as many faces in an image as its upper left pixel says."""

    def __init__(self, *_: object) -> None: ...

    def find(self, image) -> list[Face]:
        size = image.shape[0]
        return [
            Face((0.0, 0.0, 4.0 + n, 4.0 + n), faces.TEMPLATE.astype("f4") * size / 112, 1.0)
            for n in range(image[0, 0, 0])
        ]


def test_faces_one_a_picture(kdedge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setattr("kdedge.data.faces.FaceFinder", Finder)
    images = painted(OTHERS["yellow"], 3, size=32)
    for count, image in enumerate(images):
        image[0, 0] = count
        cv2.imwrite(str(tmp_path / f"{count}.png"), image[..., ::-1])
    done = kdedge("enroll", "yellow", *(tmp_path / f"{n}.png" for n in range(3)), "--detector", tmp_path / "x.onnx")
    assert done.exit_code == 2
    assert "yellow: 1 image, 1 new" in done.stdout
    assert "0.png: no face was found" in done.stderr
    assert "2.png: shows 2 faces; cut the right one out, or take the largest with --largest." in done.stderr
    two = kdedge("enroll", "yellow", tmp_path / "2.png", "--detector", tmp_path / "x.onnx", "--largest", "--json")
    assert json.loads(two.stdout)["images"] == 2


def test_help_has_examples() -> None:
    for words in (["enroll"], *(["gallery", name] for name in ("list", "show", "remove", "clear", "calibrate"))):
        done = CliRunner().invoke(app, [*words, "--help"])
        assert done.exit_code == 0
        assert f"kdedge {' '.join(words)}" in done.output.split("Examples:")[1]
