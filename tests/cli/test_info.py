"""``kdedge info`` from the outside."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from kdedge.card import ModelCard
from tests.conftest import color_card, write_color_model
from tests.runtime.test_info import FULL
from tests.test_imports import TRAINING, loaded_after


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A run and a file, as the examples name them."""
    folder = tmp_path / "place"
    write_color_model(folder / "runs/first/student.int8.onnx", FULL)
    shutil.copy(folder / "runs/first/student.int8.onnx", folder / "student.int8.onnx")
    return folder


def test_the_card_as_json(run_kdedge, place: Path) -> None:
    done = run_kdedge("info", "student.int8.onnx", "--json", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert ModelCard.from_json(done.stdout) == FULL
    value = json.loads(done.stdout)
    assert value.pop("file")["bytes"] == (place / "student.int8.onnx").stat().st_size
    assert value == FULL.to_dict()


def test_examples(run_kdedge, place: Path) -> None:
    lines = run_kdedge("info", "--help").stdout.partition("Examples:")[2].partition("Arguments:")[0].split("\n")
    words = [shlex.split(line.partition(">")[0])[1:] for line in lines if "kdedge" in line]
    assert len(words) == 3
    for example in words:
        done = run_kdedge(*example, cwd=place)
        assert done.returncode == 0, done.stderr
        assert "colors" in done.stdout
        assert done.stderr.count("the newest export under runs/") == (example == ["info"])


def test_eighty_columns(run_kdedge, tmp_path: Path) -> None:
    labels = tuple(f"a kind of thing with a long name, number {number}" for number in range(3))
    card = FULL.with_(
        labels=labels,
        notes="word " * 80,
        scores={"a_score_with_a_name_that_is_much_too_long": 0.5},
        provenance={"fp32_sha256": "ab" * 32},
    )
    write_color_model(tmp_path / "a.onnx", card)
    done = run_kdedge("info", "a.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    assert " ".join(done.stdout.split()).count("a kind of thing with a long name, number 2") == 1
    assert done.stdout.count("word") == 80
    assert "  a score with a name that is much too long\n" in done.stdout
    assert f"\n    {'ab' * 32}\n" in done.stdout


def test_control_characters_stay_out_of_the_terminal(run_kdedge, tmp_path: Path) -> None:
    write_color_model(tmp_path / "a.onnx", color_card(notes="red\x1b[31m\x07\nnext", labels=("a\x1b]0;b", "c", "d")))
    done = run_kdedge("info", "a.onnx", cwd=tmp_path)
    assert done.returncode == 0
    assert all(letter.isprintable() for letter in done.stdout.replace("\n", ""))


def test_a_model_of_the_zoo_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom kdedge.cli import main\nsys.argv = ['kdedge', 'info', 'cifar10']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert not loaded_after(code, tmp_path) & (TRAINING | {"rich"})


def test_from_the_environment(run_kdedge, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "KDEDGE_MODEL", str(place / "student.int8.onnx"))
    done = run_kdedge("info", "--json")
    assert json.loads(done.stdout)["file"]["path"] == str(place / "student.int8.onnx")
    assert "from $KDEDGE_MODEL" in done.stderr
