"""Which model is taken, and that it is said why."""

import os
import shutil
from pathlib import Path

import pytest

from kdedge.errors import ModelError
from kdedge.runtime import models
from kdedge.runtime.models import DEFAULT_ZOO, default_model


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with an empty zoo."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(models, "zoo_folder", lambda: tmp_path / "zoo")
    return work


def put(path: Path, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_order_of_preference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"--model.*KDEDGE_MODEL.*kdedge distill"):
        default_model()
    zoo = put(tmp_path / "zoo" / DEFAULT_ZOO / "model.int8.onnx")
    assert default_model() == (zoo, "the zoo's default")
    run = put(Path("runs/a/student.onnx"))
    assert default_model() == (run, "the newest export under runs/")
    chosen = put(tmp_path / "chosen.onnx")
    monkeypatch.setenv("KDEDGE_MODEL", str(chosen))
    assert default_model() == (chosen, "from $KDEDGE_MODEL")
    assert default_model("runs/a") == (run, "as given")
    assert default_model(DEFAULT_ZOO) == (zoo, "as given")
    assert default_model(str(chosen)) == (chosen, "as given")


def test_newest_run_and_its_int8_file() -> None:
    put(Path("runs/old/student.int8.onnx"), age=100)
    put(Path("runs/new/student.onnx"), age=10)
    int8 = put(Path("runs/new/student.int8.onnx"), age=20)
    put(Path("runs/stray.onnx"))
    assert default_model()[0] == int8
    assert default_model("runs/new")[0] == int8
    shutil.rmtree("runs/new")
    assert default_model()[0] == Path("runs/old/student.int8.onnx")


def test_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "zoo/pets/model.int8.onnx")
    (tmp_path / "zoo/README.md").touch()
    Path("runs/empty").mkdir(parents=True)
    put(Path("photo.jpg"))
    for given, reason in (
        ("absent", r"the zoo \(pets\)"),
        ("photo.jpg", r"an \.onnx file"),
        ("runs/empty", "kdedge export"),
    ):
        with pytest.raises(ModelError, match=reason):
            default_model(given)
    monkeypatch.setenv("KDEDGE_MODEL", "absent")
    with pytest.raises(ModelError, match="absent: no such model"):
        default_model()
