"""``kdedge classify`` beyond image files: videos, stdin, CSV, annotated copies, unknown images, broken pipes."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.runtime.annotate import FilmWriter
from tests.conftest import COLORS, environment


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten red frames, then ten blue ones."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with FilmWriter(path, 10.0) as writer:
        for number in range(20):
            color = COLORS["red" if number < 10 else "blue"]
            writer.add(np.full((64, 64, 3), color[::-1], np.uint8), number / 10)
    return path


def test_a_video(run_kdedge, clip: Path, color_model: Path, tmp_path: Path) -> None:
    done = run_kdedge("classify", clip, "-m", color_model, "--every", 4, "--json", "--annotate", tmp_path / "seen")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["image"] for answer in answers] == [f"{clip}#{number}" for number in (0, 4, 8, 12, 16)]
    assert [answer["label"] for answer in answers] == ["red"] * 3 + ["blue"] * 2
    assert [answer["frame"] for answer in answers] == [0, 4, 8, 12, 16]
    assert [answer["seconds"] for answer in answers] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6], abs=0.02)
    assert "5 frames in" in done.stderr
    assert "the source has 10.0" in done.stderr
    written = cv2.VideoCapture(str(tmp_path / "seen/clip.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) >= 16
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["clip.mp4"]


def test_films_and_images_together(run_kdedge, clip: Path, color_images: Path, color_model: Path) -> None:
    arguments = ["camera:96", color_images / "green", clip, "absent.mp4", "--max-frames", 2]
    done = run_kdedge("classify", *arguments, "-m", color_model, "-k", 1)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 4 + 2
    assert done.stderr.count("unreadable: ") == 2
    assert "camera:96: the camera cannot be opened" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: 2 of 7 could not be read."


def test_csv_and_copies(run_kdedge, color_images: Path, color_model: Path, tmp_path: Path) -> None:
    done = run_kdedge("classify", color_images, "-m", color_model, "--csv", "-k", 2, "--annotate", tmp_path / "seen")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 12
    assert {row["label"] for row in rows} == set(COLORS)
    for row in rows:
        assert Path(row["image"]).parent.name == row["label"] == row["label_1"]
        assert row["probability"] == row["probability_1"]
        assert row["unknown"] == "false"
        assert row["frame"] == row["score"] == ""
        copy = tmp_path / "seen" / Path(row["image"]).relative_to(color_images)
        pixels = cv2.imread(str(copy))
        assert min(pixels.shape[:2]) >= 240, "enlarged until it can be read"
    assert len(list((tmp_path / "seen").rglob("*.png"))) == 12


def test_copies_never_replace_the_images(run_kdedge, color_images: Path, color_model: Path, tmp_path: Path) -> None:
    shutil.copytree(color_images, tmp_path / "own")
    before = {path: path.read_bytes() for path in (tmp_path / "own").rglob("*.png")}
    done = run_kdedge("classify", tmp_path / "own", "-m", color_model, "--annotate", tmp_path / "own")
    assert done.returncode == 2
    assert "would take the place of the images" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def through_stdin(data: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "kdedge", "classify", "-", *map(str, arguments)]
    return subprocess.run(words, input=data, capture_output=True, env=environment(), check=False)


def test_stdin(color_images: Path, color_model: Path) -> None:
    picture = color_images / "red/0.png"
    (answer,) = through_stdin(picture.read_bytes(), "-m", color_model, "--json").stdout.splitlines()
    assert json.loads(answer)["label"] == "red"
    listed = "\0".join(map(str, [picture, color_images / "blue"])) + "\0"
    done = through_stdin(listed.encode(), "-m", color_model, "--json")
    assert done.returncode == 0
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["red"] + ["blue"] * 4
    done = through_stdin(b"", "-m", color_model)
    assert done.returncode == 2
    assert b"stdin is empty" in done.stderr


def test_a_reader_that_has_seen_enough(color_images: Path, color_model: Path) -> None:
    many = "\n".join([str(color_images)] * 400)
    words = [sys.executable, "-m", "kdedge", "classify", "-", "-m", str(color_model)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(many.encode())
        process.stdin.close()
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "Broken" not in said


def test_contradictions_are_refused(run_kdedge, color_images: Path, color_model: Path) -> None:
    for words, why in (
        (["--json", "--csv"], "--json and --csv"),
        (["--unknown-threshold", 0.5, "--no-unknown"], "contradict"),
        (["--provider", "gpu"], "'gpu' is not known"),
        (["--provider", "cuda"], "no cuda"),
    ):
        done = run_kdedge("classify", color_images, "-m", color_model, *words)
        assert done.returncode == 2, words
        assert done.stdout == ""
        assert why in done.stderr.splitlines()[-1]
    done = run_kdedge("classify", color_images, "-m", color_model, "--provider", "cuda", "--allow-fallback")
    assert done.returncode == 0
    assert "on cpu" in done.stderr
    assert "cpu takes over" in done.stderr


@pytest.mark.parametrize("options", [["--workers", 0], ["--workers", 1], ["--workers", 5], ["--batch", 3]])
def test_workers_change_nothing_but_time(run_kdedge, color_images: Path, color_model: Path, options: list) -> None:
    done = run_kdedge("classify", color_images, "-m", color_model, *options)
    lines = done.stdout.splitlines()
    assert [Path(line.split()[0]).parent.name for line in lines] == [name for name in sorted(COLORS) for _ in range(4)]
    assert [line.split()[1] for line in lines] == [name for name in sorted(COLORS) for _ in range(4)]
