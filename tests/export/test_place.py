import errno
import shutil
from pathlib import Path

import pytest

from kdedge.errors import ExportError, RunError
from kdedge.export.place import Files, place, refuse_existing


def test_names_in_a_run(tmp_path: Path) -> None:
    files = Files.of_run(tmp_path, "x86")
    assert [path.name for path in (files.fp32, files.fp16, files.int8)] == [
        "student.onnx",
        "student.fp16.onnx",
        "student.int8.onnx",
    ]
    assert Files.of_run(tmp_path, "jetson").int8.name == "student.jetson.int8.onnx"


@pytest.mark.parametrize(
    ("out", "int8", "float16", "names"),
    [
        ("a.onnx", True, False, ("a.fp32.onnx", "a.fp16.onnx", "a.onnx")),
        ("a.int8.onnx", True, True, ("a.fp32.onnx", "a.fp16.onnx", "a.int8.onnx")),
        ("a.onnx", False, True, ("a.fp32.onnx", "a.onnx", "a.int8.onnx")),
        ("a.b.onnx", False, False, ("a.b.onnx", "a.b.fp16.onnx", "a.b.int8.onnx")),
    ],
)
def test_names_beside_a_file(out: str, int8: bool, float16: bool, names: tuple[str, ...]) -> None:
    files = Files.named(Path("x") / out, int8, float16)
    assert (files.fp32.name, files.fp16.name, files.int8.name) == names


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"must end in \.onnx"):
        Files.named(Path("student.bin"), True, False)
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(ExportError, match="this is a directory"):
        Files.named(tmp_path / "a.onnx", True, False)


def test_existing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"a\.onnx exists already; give --overwrite"):
        refuse_existing([tmp_path / "a.onnx"], overwrite=False)
    refuse_existing([tmp_path / "a.onnx"], overwrite=True)
    refuse_existing([tmp_path / "b.onnx"], overwrite=False)


def test_stale_files_go(tmp_path: Path) -> None:
    for name in ("source", "a.onnx", "a.int8.onnx", "other.onnx"):
        (tmp_path / name).write_text(name)
    place([(tmp_path / "source", tmp_path / "a.onnx")], [tmp_path / "a.onnx", tmp_path / "a.int8.onnx"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "source": "source",
        "a.onnx": "source",
        "other.onnx": "other.onnx",
    }


def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_text("new")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.onnx").write_text("old")
    copies = iter([shutil.copyfile])

    def fill_up(source: Path, path: Path) -> None:
        copy = next(copies, None)
        if copy is None:
            path.write_text("ha")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, path)

    monkeypatch.setattr("kdedge.export.place.shutil.copyfile", fill_up)
    files = [(tmp_path / "source", out / "a.onnx"), (tmp_path / "source", out / "b.onnx")]
    with pytest.raises(ExportError, match="the disk is full; nothing was written, make room first"):
        place(files, [out / "c.onnx"])
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.onnx": "old"}


def test_a_place_that_cannot_be_written_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is no folder that can be written; choose another place with --out"):
        refuse_existing([tmp_path / "file" / "a.onnx"], overwrite=True)
    monkeypatch.setattr("kdedge.export.place.os.access", lambda *_: False)
    with pytest.raises(ExportError, match="is no folder that can be written"):
        refuse_existing([tmp_path / "deep" / "a.onnx"], overwrite=False)
    assert not (tmp_path / "deep").exists()
