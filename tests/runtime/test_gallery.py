"""Galleries: what they hold, what they refuse, two processes at once, and what a classifier makes of them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdedge.errors import DataError, ModelError
from kdedge.files import sha256_of
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.enrol import Pictured, calibrate_gallery, enrol
from kdedge.runtime.gallery import Gallery, fingerprint
from kdedge.runtime.gallery_file import change_gallery, find_gallery, gallery_path
from kdedge.runtime.prototypes import unit_rows
from tests.conftest import COLORS, environment
from tests.runtime.knowing import OTHERS, painted, write_knowing
from tests.runtime.test_classifier import write_two_outputs

UNITS = unit_rows(np.random.default_rng(0).normal(size=(6, 4)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, color_images: Path) -> Path:
    return write_knowing(tmp_path_factory.mktemp("model") / "student.onnx", color_images)


@pytest.fixture
def classifier(model: Path) -> Classifier:
    return Classifier(model, 1, unknown="never")


def pictured(color: tuple[int, int, int], count: int, seed: int = 0) -> list[Pictured]:
    return [Pictured(f"{number}.png", image) for number, image in enumerate(painted(color, count, seed))]


def empty() -> Gallery:
    return Gallery("f" * 64, "colors", ("a", "b"), 4)


def test_a_picture_counts_once_and_order_does_not_matter() -> None:
    together = empty().enrolled("x", UNITS[:4], "abcd")
    apart = empty().enrolled("x", UNITS[[3, 1]], "db").enrolled("x", UNITS[[0, 1, 2, 0]], "abca")
    assert set(apart.classes["x"].images) == set("abcd")
    assert apart.known().means == pytest.approx(together.known().means, abs=1e-6)
    assert together.known().means[0] == pytest.approx(UNITS[:4].mean(0), abs=1e-6)
    assert together.known().counts.tolist() == [4]
    again = together.enrolled("x", UNITS[4:5], "e", replace_it=True)
    assert again.classes["x"].images == ("e",)
    assert again.classes["x"].added == together.classes["x"].added


def test_spread_is_the_mean_cosine_of_all_pairs() -> None:
    entry = empty().enrolled("x", UNITS, "abcdef").classes["x"]
    cosines = UNITS @ UNITS.T
    assert entry.spread == pytest.approx(cosines[np.triu_indices(6, 1)].mean(), abs=1e-6)
    assert empty().enrolled("x", UNITS[:1], "a").classes["x"].spread is None


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "\x1b[31m", "x" * 101, "unknown", "a"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(DataError, match=r"choose another name|cannot be the name"):
        empty().enrolled(name, UNITS[:1], "a")


def test_a_picture_shows_one_class() -> None:
    there = empty().enrolled("x", UNITS[:2], "ab")
    with pytest.raises(DataError, match="1 of the images of 'y' is enrolled as 'x'"):
        there.enrolled("y", UNITS[1:3], "bc")
    for units, images in ((UNITS[:2], "a"), (UNITS[:1, :3], "a"), (UNITS[:0], "")):
        with pytest.raises(DataError, match="expected"):
            empty().enrolled("x", units, images)


def test_file_holds_all_of_it(tmp_path: Path) -> None:
    there = replace(empty(), rejection={"threshold": 0.4, "applied": True}).enrolled("Zoë 犬", UNITS[:3], "abc")
    path = tmp_path / "deep" / "g.json"
    there.write(path)
    back = Gallery.read(path)
    assert back.to_dict()["classes"] == there.to_dict()["classes"]
    assert (back.model, back.labels, back.dim, back.rejection) == (there.model, there.labels, 4, there.rejection)
    assert back.without("Zoë 犬").classes == {}
    with pytest.raises(DataError, match="'y' is not enrolled; the gallery knows Zoë 犬"):
        back.without("y")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "card"}, "not a gallery"),
        ({"format": 9}, "format 1 was expected, found 9"),
        ({"classes": {"x": {"added": "", "images": ["a"], "sum": "AAAA"}}}, "damaged"),
        ({"classes": {"x": {"added": "", "images": [], "sum": "AAAAAAAAAAAAAAAAAAAAAA=="}}}, "damaged"),
        ({"classes": {"x": {"added": "", "images": ["a"], "sum": "AADAfwAAAAAAAAAAAAAAAA=="}}}, "damaged"),  # NaN
        ({"classes": []}, "damaged"),
        ({"model": None}, "damaged"),
        ({"base": {"format": 1}}, "garbled"),
    ],
)
def test_damaged_files_are_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps({**empty().to_dict(), **change}))
    with pytest.raises(ModelError, match=words):
        Gallery.read(path)


def test_what_is_no_gallery(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_bytes(b"\xff\xfe{")
    for path, words in ((tmp_path / "g.json", "not a gallery"), (tmp_path / "absent.json", "cannot be read")):
        with pytest.raises(ModelError, match=words):
            Gallery.read(path)
    with pytest.raises(ModelError, match="cannot be written"):
        empty().write(tmp_path / "g.json" / "below.json")


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.delenv("KDEDGE_GALLERY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    digest = sha256_of(model)
    own = tmp_path / "data" / "kdedge" / "galleries" / f"{digest[:12]}.json"
    assert gallery_path(digest) == own
    assert find_gallery(model) is None
    with pytest.raises(ModelError, match=r"no such gallery; 'kdedge enroll"):
        find_gallery(model, tmp_path / "none.json")
    Gallery(digest, "colors", tuple(COLORS), 3).write(own)
    found = find_gallery(model)
    assert found is not None
    assert found[1] == own
    monkeypatch.setenv("KDEDGE_GALLERY", str(tmp_path / "mine.json"))
    assert gallery_path(digest) == tmp_path / "mine.json"
    assert find_gallery(model) is None
    assert gallery_path(digest, "other.json") == Path("other.json")


def test_nothing_is_hashed_where_nobody_ever_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.delenv("KDEDGE_GALLERY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("kdedge.runtime.gallery_file.sha256_of", lambda _: pytest.fail("the model was hashed"))
    assert find_gallery(model) is None


def test_failing_change_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    change_gallery(path, lambda _: empty().enrolled("x", UNITS[:1], "a"))
    before = path.read_bytes()
    with pytest.raises(DataError):
        change_gallery(path, lambda there: (there or empty()).without("y"))
    assert path.read_bytes() == before


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    code = """
import sys, time, numpy as np
from pathlib import Path
from kdedge.runtime.gallery import Gallery
from kdedge.runtime.gallery_file import change_gallery
path, who = Path(sys.argv[1]), sys.argv[2]
def change(there, number):
    there = there or Gallery("f" * 64, "colors", ("a", "b"), 4)
    time.sleep(0.01)  # long enough for the other to come between
    return there.enrolled(f"{who}{number}", np.eye(4)[:1], [f"{who}{number}"])
for number in range(12):
    change_gallery(path, lambda there: change(there, number))
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), who], env=environment(), stderr=subprocess.PIPE)
        for who in "pq"
    ]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert set(Gallery.read(path).classes) == {f"{who}{number}" for who in "pq" for number in range(12)}
    assert {file.name for file in tmp_path.iterdir()} == {"g.json", ".g.json.lock"}


def test_fingerprint_is_of_the_pixels() -> None:
    red = painted(COLORS["red"], 2)
    assert fingerprint(red[0]) == fingerprint(red[0].copy()[::1]) != fingerprint(red[1])
    assert fingerprint(np.asfortranarray(red[0])) == fingerprint(red[0])


def test_an_empty_gallery_changes_no_answer(classifier: Classifier, model: Path) -> None:
    images = [image for color in (*COLORS.values(), *OTHERS.values()) for image in painted(color, 3)]
    there = Gallery(sha256_of(model), "colors", tuple(COLORS), 3)
    with Classifier(model, 1, gallery=there) as other:
        assert other.predict(images) == classifier.predict(images)
        assert other.labels == classifier.labels == tuple(COLORS)


def test_an_enrolled_class_is_known_from_then_on(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    done = enrol(classifier, path, "yellow", pictured(OTHERS["yellow"], 3))
    assert (done.images, done.added, done.repeated) == (3, 3, 0)
    assert done.within is not None
    assert done.within > 0.9
    again = enrol(classifier, path, "yellow", pictured(OTHERS["yellow"], 4))
    assert (again.images, again.added, again.repeated) == (4, 1, 3)
    with Classifier(model, 1, gallery=Gallery.read(path)) as both:
        assert both.labels == (*COLORS, "yellow")
        found = both.predict(painted(OTHERS["yellow"], 5, seed=1), top=9)
        assert {item.label for item in found} == {"yellow"}
        assert all(sum(item.probabilities) == pytest.approx(1) and len(item.labels) == 4 for item in found)
        for name, color in COLORS.items():
            assert {item.label for item in both.predict(painted(color, 5, seed=1))} == {name}
    one = enrol(classifier, tmp_path / "h.json", "yellow", pictured(OTHERS["yellow"], 1))
    assert one.within is None


def test_warnings(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    assert enrol(classifier, path, "yellow", pictured(OTHERS["yellow"], 4)).warnings == ()
    same = enrol(classifier, path, "gold", pictured(OTHERS["yellow"], 4, seed=1))
    assert same.nearest == "yellow"
    assert any("look like a class that is there already, most like 'yellow'" in line for line in same.warnings)
    mixture = [*pictured(OTHERS["cyan"], 4), Pictured("odd.png", painted(COLORS["red"], 1)[0])]
    odd = enrol(classifier, path, "cyan", mixture).warnings
    assert [line for line in odd if "odd.png looks unlike" in line]
    two = [Pictured("a", painted(OTHERS["violet"], 1)[0]), Pictured("b", painted(COLORS["green"], 1, seed=3)[0])]
    assert any("unlike each other" in line for line in enrol(classifier, path, "two", two).warnings)


def test_a_gallery_of_another_model_is_refused(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    Gallery("0" * 64, "colors", tuple(COLORS), 3).write(path)
    with pytest.raises(ModelError, match=r"made with another file of 'colors' .* enrol the images again"):
        enrol(classifier, path, "x", pictured(OTHERS["cyan"], 1))
    with pytest.raises(ModelError, match="another file"):
        Classifier(model, 1, gallery=Gallery.read(path))
    with pytest.raises(ModelError, match="another file"):
        find_gallery(model, path)


def test_threshold_from_strangers(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    enrol(classifier, path, "yellow", pictured(OTHERS["yellow"], 3))
    known = [(name, image) for name, color in COLORS.items() for image in painted(color, 6, seed=5)]
    known += [("yellow", picture.image) for picture in pictured(OTHERS["yellow"], 3)]  # these were enrolled
    strangers = painted(OTHERS["cyan"], 30) + painted(OTHERS["violet"], 30)
    made = calibrate_gallery(classifier, path, known, strangers, 0.05)
    said = made.rejection
    assert said["images"] == {"known": 18, "strangers": 60}
    assert (said["false_accept"], said["known_accept"], said["enrolled"]) == (0.05, 1.0, ["yellow"])
    with Classifier(model, 1, gallery=Gallery.read(path)) as both:
        passed = sum(not item.unknown for item in both.predict(strangers))
        assert passed <= 2  # of 60, 3 / 61 promised
        assert not any(item.unknown for item in both.predict([image for _, image in known]))
    late = enrol(classifier, path, "cyan", pictured(OTHERS["cyan"], 3, seed=2))
    assert any("threshold was set before 'cyan'" in line for line in late.warnings)
    with pytest.raises(DataError, match="strangers"):
        calibrate_gallery(classifier, path, known, [], 0.05)
    with pytest.raises(DataError, match="'mauve' is neither"):
        calibrate_gallery(classifier, path, [("mauve", strangers[0])], strangers, 0.05)


def test_an_older_file_gets_its_prototypes_on_the_device(tmp_path: Path) -> None:
    model, path = write_two_outputs(tmp_path / "old.onnx"), tmp_path / "g.json"
    with Classifier(model, 1) as old:
        with pytest.raises(ModelError, match=r"no prototypes .*calibrate --known DIR"):
            enrol(old, path, "yellow", pictured(OTHERS["yellow"], 2))
        assert not path.exists()
        known = [(name, image) for name, color in COLORS.items() for image in painted(color, 8)]
        with pytest.raises(DataError, match="class number 2"):
            calibrate_gallery(old, path, known[:16], [], 0.05)
        calibrate_gallery(old, path, known, painted(OTHERS["cyan"], 20), 0.1)
        enrol(old, path, "yellow", pictured(OTHERS["yellow"], 2))
    with Classifier(model, 1, gallery=Gallery.read(path)) as both:
        assert both.predict(painted(OTHERS["yellow"], 1, seed=1))[0].label == "yellow"
        assert both.predict(painted(OTHERS["cyan"], 1, seed=1))[0].label == "unknown"
        assert both.predict(painted(COLORS["blue"], 1, seed=1))[0].label == "blue"


def test_a_file_without_embeddings_says_so(color_model: Path, tmp_path: Path) -> None:
    with Classifier(color_model, 1) as bare, pytest.raises(ModelError, match="gives no embedding; export"):
        enrol(bare, tmp_path / "g.json", "x", pictured(OTHERS["cyan"], 1))


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_lock_is_free_after_a_process_died(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    code = (
        "import os, sys; from pathlib import Path; from kdedge.runtime.gallery_file import change_gallery\n"
        "change_gallery(Path(sys.argv[1]), lambda _: os._exit(9))"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(path)], env=environment(), check=False, timeout=60)
    assert dead.returncode == 9
    assert change_gallery(path, lambda there: there or empty()).classes == {}


def test_the_models_own_gallery(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("KDEDGE_GALLERY", raising=False)
    assert Classifier(model, 1, gallery="auto").gallery is None
    with Classifier(model, 1) as plain:
        enrol(plain, gallery_path(sha256_of(model)), "yellow", pictured(OTHERS["yellow"], 3))
    with Classifier(model, 1, gallery="auto") as own:
        assert own.labels == (*COLORS, "yellow")
        assert own.predict(painted(OTHERS["yellow"], 1, 9)[0])[0].label == "yellow"


@pytest.mark.parametrize("threshold", [5.0, -1.01, float("nan")])
def test_a_threshold_is_a_cosine(threshold: float, model: Path) -> None:
    with pytest.raises(ModelError, match="a threshold for the unknown is a cosine, -1 to 1"):
        Classifier(model, 1, unknown=threshold)
