"""A run directory is read as it is: whole, half done, moved, old, or garbled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kdedge.errors import KdedgeError, ModelError, RunError
from kdedge.runtime.run_reader import read_bench, read_run
from tests.runtime.runs import int8_card, write_images, write_run
from tests.test_imports import TRAINING, loaded_after


def test_a_whole_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert run.finished
    assert (run.kind, run.command.split()[1]) == ("distill", "distill")
    assert [(each.path.name, each.card.precision) for each in run.exports] == [
        ("student.int8.onnx", "int8"),
        ("student.onnx", "fp32"),
    ]
    assert run.exports[0].bytes == (tmp_path / "run" / "student.int8.onnx").stat().st_size
    assert run.best_card == run.exports[0].card
    assert run.export("fp32") is run.exports[1]
    assert run.export("fp16") is None
    assert len(run.history) == 9
    assert run.heldout_labels == (0,)
    assert run.scores["test_accuracy"] == 1.0
    assert run.bench == run.summary == {}


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('command = "kdedge teacher fit"\n[fit]\nmethod = "teacher"\n')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    run = read_run(tmp_path)
    assert not run.finished
    assert (run.kind, run.history, run.exports, run.scores) == ("teacher", ({"step": 1, "loss": 2.0},), (), {})
    assert run.best_card is None


def test_result_wins_over_the_card_and_words_are_no_scores(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / "result.json").write_text('{"run": "x", "test_accuracy": 0.5, "cv_accuracy": NaN, "flag": true}')
    assert read_run(path).scores["test_accuracy"] == 0.5
    assert not {"run", "cv_accuracy", "flag"} & set(read_run(path).scores)


def test_files_of_several_devices(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    other = write_run(tmp_path / "other", int8_card(target="arm64"))
    shutil.copy(other / "student.int8.onnx", path / "student.arm64.int8.onnx")
    run = read_run(path)
    assert [each.path.name for each in run.exports] == ["student.int8.onnx", "student.onnx", "student.arm64.int8.onnx"]
    found = run.export("int8", "arm64")
    assert found
    assert found.path.name == "student.arm64.int8.onnx"


GARBLED: dict[str, Callable[[Path], object]] = {
    "config.toml": lambda run: (run / "config.toml").write_text("command = "),
    "card.json": lambda run: (run / "card.json").write_text('{"format": 99}'),
    "metrics.jsonl": lambda run: (run / "metrics.jsonl").write_text("{}\nnothing\n{}\n"),
    "metrics.jsonl of numbers": lambda run: (run / "metrics.jsonl").write_text("3\n"),
    "images.json": lambda run: (run / "images.json").write_text("{"),
    "images.json of numbers": lambda run: (run / "images.json").write_text('{"trained": [1]}'),
    "images.json with words": lambda run: (run / "images.json").write_text('{"heldout_labels": ["a"]}'),
    "result.json": lambda run: (run / "result.json").write_text("[1]"),
    "summary.json": lambda run: (run / "summary.json").write_bytes(b"\xff\xfe{}"),
    "bench.json": lambda run: (run / "bench.json").write_text('{"rows": []}'),
    "student.int8.onnx": lambda run: (run / "student.int8.onnx").write_bytes(b"no model"),
}


@pytest.mark.parametrize("what", GARBLED)
def test_a_garbled_file_is_named(tmp_path: Path, what: str) -> None:
    path = write_run(tmp_path / "run")
    GARBLED[what](path)
    with pytest.raises(KdedgeError, match=what.split()[0]) as error:
        read_run(path)
    assert isinstance(error.value, RunError | ModelError)
    assert "\n" not in str(error.value)


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in (("absent", "no such"), ("file", "this is a file"), (".", "not a run directory")):
        with pytest.raises(RunError, match=words):
            read_run(tmp_path / path)


def test_a_bench_file_has_rows(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    with pytest.raises(RunError, match="no such file"):
        read_bench(path)
    path.write_text(json.dumps({"rows": [{"p50_ms": 1.0}]}))
    assert read_bench(path)["rows"] == [{"p50_ms": 1.0}]


def test_folders_are_found_inside_a_run_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"out": "runs/demo", "test": "runs/demo/data/test"}
    write_run(tmp_path / "runs" / "demo", settings=settings, exported=False)
    write_images(tmp_path / "runs" / "demo" / "data" / "test")
    shutil.move(tmp_path / "runs" / "demo", tmp_path / "elsewhere")
    assert read_run("elsewhere").folder("test") == Path("elsewhere/data/test")


def test_folders_are_those_of_the_place_where_the_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    write_run(project / "runs" / "a", settings={"out": "runs/a", "test": "test", "val": "val"}, exported=False)
    for folder in (project / "test", here / "test", here / "val"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    run = read_run(project / "runs" / "a")
    assert run.folder("test") == project / "test"
    assert run.folder("val") is None  # the one that lies here is another project's
    assert run.folder("train") is None


def test_training_images_tell_where_the_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path / "project" / "train")
    (tmp_path / "project" / "test").mkdir()
    path = write_run(
        tmp_path / "moved",
        settings={"out": "runs/a", "train": "train", "test": "test"},
        exported=False,
        trained=sorted(images.rglob("*.png")),
    )
    monkeypatch.chdir(tmp_path)
    assert read_run(path).folder("test") == tmp_path / "project" / "test"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "test").write_text("")
    path = write_run(tmp_path / "run", settings={"test": str(tmp_path / "test")}, exported=False)
    assert read_run(path).folder("test") is None


def test_reading_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert (
        not loaded_after(f"from kdedge.runtime.run_reader import read_run; read_run({str(path)!r})", tmp_path)
        & TRAINING
    )
