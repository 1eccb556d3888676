"""Splits as files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdedge.data.folder import class_folders
from kdedge.data.manifest import read_manifest
from kdedge.data.split import split_per_class, write_split
from kdedge.errors import DataError

HEAD = "path,label,class_name,split\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Make the images named in rows (each with bytes of its own) and the manifest."""

    def make(*rows: str, head: str = HEAD, encoding: str = "utf-8", absent: tuple[str, ...] = ()) -> Path:
        for row in rows:
            name = row.split(",")[0]
            if name and name not in absent:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
        manifest = tmp_path / "manifest.csv"
        manifest.write_text(head + "".join(row + "\n" for row in rows), encoding=encoding)
        return manifest

    return make


GOOD = ("a/1.png,0,cat,train", "a/2.png,0,cat,test", "b/1.png,1,dog,train", "b/2.png,1,dog,val")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_parts_and_classes(write: Write, tmp_path: Path, encoding: str) -> None:
    found = read_manifest(write(*GOOD, encoding=encoding))
    assert found.train.classes == ("cat", "dog")
    assert found.train.paths == (tmp_path / "a/1.png", tmp_path / "b/1.png")
    assert found.train.labels == (0, 1)
    assert found.val is not None
    assert found.val.labels == (1,)
    assert found.test is not None
    assert found.test.classes == ("cat", "dog")
    assert read_manifest(write(GOOD[0], GOOD[2])).test is None


def test_relative_paths_may_be_below_another_folder(write: Write, tmp_path: Path) -> None:
    manifest = write(*GOOD)
    moved = tmp_path / "elsewhere.d" / "m.csv"
    moved.parent.mkdir()
    moved.write_text(manifest.read_text())
    assert read_manifest(moved, tmp_path).train.paths == read_manifest(manifest).train.paths
    with pytest.raises(DataError, match="4 of 4 images are missing"):
        read_manifest(moved)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("a,0,cat,train", "b,1,dog,nowhere"), r"line 3: unknown split 'nowhere'"),
        (("a,0,cat,train", "b,x,dog,train"), r"line 3: the label is 'x'"),
        (("a,0,cat,train", "b,-1,dog,train"), r"line 3: the label is '-1'"),
        (("a,0,cat,train", "b,7,dog,train"), r"line 3: label 7 lies outside the class list; 2 classes"),
        (("a,0,cat,train", "b,0,dog,train"), r"line 3: label 0 is 'dog' here and 'cat' in line 2"),
        (("a,0,cat,train", "b,1,cat,train"), r"line 3: 'cat' has label 1 here and 0 in line 2"),
        (("a,0,cat,train", "a,0,cat,test", "b,1,dog,train"), r"line 3: a stands in line 2 already"),
        (("a,0,cat,train", "b,0,cat,test"), r"only one class \(cat\)"),
        (("a,0,cat,test", "b,1,dog,test"), r"no image is in the split 'train'"),
        (("a,0,,train",), r"line 2: a path and a class name"),
        ((), r"holds no images"),
    ],
)
def test_bad_rows_are_named(write: Write, rows: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_manifest(write(*rows))
    assert "\n" not in str(caught.value)


def test_missing_files_are_counted_and_named(write: Write) -> None:
    with pytest.raises(DataError, match=r"2 of 4 images are missing: .*a/2.png \(line 3\), .*b/1.png \(line 4\)\.$"):
        read_manifest(write(*GOOD, absent=("a/2.png", "b/1.png")))


def test_the_same_bytes_in_two_parts_are_refused_with_the_pair(write: Write, tmp_path: Path) -> None:
    manifest = write(*GOOD)
    (tmp_path / "b/2.png").write_bytes((tmp_path / "a/1.png").read_bytes())
    with pytest.raises(DataError, match=r"1 image\(s\) stand in two parts.*a/1.png \(train\) = .*b/2.png \(val\)\.$"):
        read_manifest(manifest)
    (tmp_path / "b/2.png").write_bytes((tmp_path / "b/2.png").read_bytes()[::-1])  # equal size, other bytes
    assert len(read_manifest(manifest).train) == 2


def test_twins_within_a_part_are_no_leak(write: Write, tmp_path: Path) -> None:
    manifest = write(*GOOD)
    (tmp_path / "b/1.png").write_bytes((tmp_path / "a/1.png").read_bytes())
    assert len(read_manifest(manifest).train) == 2


@pytest.mark.parametrize("head", ["path,label,class_name\n", "", "a;b\n"])
def test_other_tables_are_refused(write: Write, head: str) -> None:
    with pytest.raises(DataError, match="is missing; a manifest has path, label, class_name, split"):
        read_manifest(write(head=head))


def test_what_is_no_text_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read as a manifest"):
            read_manifest(path)
    (tmp_path / "bytes.csv").write_bytes(os.urandom(64) + b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="not UTF-8"):
        read_manifest(tmp_path / "bytes.csv")


def test_reads_what_a_split_writes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "all" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name}{number}".encode())
    data = class_folders(tmp_path / "all")
    train, test = split_per_class(data, 2, 0)
    write_split(data, train, test, tmp_path / "split")
    found = read_manifest(tmp_path / "split" / "manifest.csv")
    assert (len(found.train), found.val) == (4, None)
    assert found.test is not None
    assert len(found.test) == 6
    assert found.train.classes == ("cat", "dog")
