"""Which model is taken, and that it is said why."""

import os
import platform
import shutil
from pathlib import Path

import pytest

from kdedge.errors import ModelError
from kdedge.runtime import models
from kdedge.runtime.models import DEFAULT_ZOO, default_model, export_name


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with an empty zoo."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(models, "zoo_folder", lambda: tmp_path / "zoo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
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


def test_names_of_exports() -> None:
    assert [export_name("x86", kind) for kind in ("int8", "fp16", "fp32")] == [
        "student.int8.onnx",
        "student.fp16.onnx",
        "student.onnx",
    ]
    assert export_name("arm64", "int8") == "student.arm64.int8.onnx"
    assert export_name("jetson", "fp32") == "student.jetson.onnx"
    assert export_name("arm64", "int8", "model") == "model.arm64.int8.onnx"


ALL = ("student.arm64.int8.onnx", "student.int8.onnx", "student.arm64.onnx", "student.onnx", "student.jetson.int8.onnx")


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_what_an_arm_machine_takes(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name in ALL:
        put(Path("runs/a") / name)
    for name in ALL[:4]:
        assert default_model("runs/a")[0].name == default_model()[0].name == name
        Path("runs/a", name).unlink()
    with pytest.raises(ModelError, match=r"student\.jetson\.int8\.onnx is for other.*--target arm64"):
        default_model("runs/a")


def test_what_an_x86_machine_takes(tmp_path: Path) -> None:
    for name in ALL:
        put(Path("runs/a") / name)
    for name in ("student.int8.onnx", "student.onnx"):
        assert default_model("runs/a")[0].name == default_model()[0].name == name
        Path("runs/a", name).unlink()
    with pytest.raises(ModelError) as caught:
        default_model("runs/a")
    assert "student.arm64.int8.onnx, student.arm64.onnx, student.jetson.int8.onnx are for other" in str(caught.value)
    assert "'kdedge export runs/a --target x86'" in str(caught.value)
    assert default_model("runs/a/student.jetson.int8.onnx")[0].name == "student.jetson.int8.onnx"
    zoo = put(tmp_path / "zoo" / DEFAULT_ZOO / "model.onnx")
    assert default_model()[0] == zoo  # the run has nothing for this machine


def test_an_arm_file_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = put(tmp_path / "zoo/pets/model.int8.onnx")
    arm = put(tmp_path / "zoo/pets/model.arm64.int8.onnx")
    assert default_model("pets")[0] == plain
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert default_model("pets")[0] == arm
