import os
import sys

import pytest

from kdedge.data.shard_list import expand_shards, is_sharded, is_url, shard_fingerprint, shard_labels, split_shards
from kdedge.errors import DataError, ModelError


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Touch files below a folder that is the current one."""
    monkeypatch.chdir(tmp_path)

    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return touch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/{08..10}.tar", ["a/08.tar", "a/09.tar", "a/10.tar"]),
        ("a", ["a/08.tar", "a/09.tar", "a/10.tar", "a/deep/1.tar"]),
        ("a/*.tar", ["a/08.tar", "a/09.tar", "a/10.tar"]),
        ("**/1.tar", ["a/deep/1.tar"]),
        ("b{1}.tar", ["b{1}.tar"]),
        ("a/10.tar", ["a/10.tar"]),
        ("a/10.tar::b{1}.tar::a/0?.tar", ["a/10.tar", "b{1}.tar", "a/08.tar", "a/09.tar"]),
        ("a/{10,deep/1}.tar", ["a/10.tar", "a/deep/1.tar"]),
        ("https://host/{8..10..2}.tar?v=1", ["https://host/8.tar?v=1", "https://host/10.tar?v=1"]),
        (
            "pipe:aws s3 cp s3://b/{1,2}.tar - | tee '{x}'",
            [f"pipe:aws s3 cp s3://b/{i}.tar - | tee '{{x}}'" for i in "12"],
        ),
        ("a/08.tar::s3://b/0.tar", ["a/08.tar", "s3://b/0.tar"]),
    ],
)
def test_what_a_text_names(at, text, expected):
    at("a/10.tar", "a/09.tar", "a/08.tar", "a/deep/1.tar", "a/.hidden/2.tar", "a/note.txt", "b{1}.tar")
    assert expand_shards(text) == expected
    assert is_sharded(text)


def test_absolute_paths(at):
    folder = at("a/1.tar", "a/2.tar")
    both = [str(folder / "a" / name) for name in ("1.tar", "2.tar")]
    for text in (f"{folder}/a", f"{folder}/*/*.tar", f"{folder}/a/{{1..2}}.tar", f"file://{folder}/a/{{1,2}}.tar"):
        assert expand_shards(text) == both


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b", "no shards found"),
        ("a/*.tgz", "no shards found"),
        ("c.tar", "no such shard"),
        ("", "empty shard"),
        ("a/1.tar::", "empty shard"),
        ("a/{1..3}.tar", r"a/2.tar: no such shard \(2 of 3"),
        ("a/{1..2.tar", "braces"),
        ("a/1.tar::a", "named twice"),
    ],
)
def test_what_names_nothing(at, text, expected):
    at("a/1.tar", "b/1.jpg")
    with pytest.raises(DataError, match=expected):
        expand_shards(text)


def test_braces_without_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with pytest.raises(ModelError, match="pip install"):
        expand_shards("{1..2}.tar")


def test_folders_of_images_are_none(at):
    at(
        "images/1.jpg",
        "images/extra.tar",
        "nested/cat/1.png",
        "nested/dog/a.tar",
        "deep/x/1.tar",
        "hidden/.1.tar",
        "f.jpg",
    )
    for text in ("images", "nested", "hidden", "f.jpg", "missing", "images/*.jpg"):
        assert not is_sharded(text)
    assert is_sharded("deep")
    assert is_sharded("missing.tar")


def test_drives_are_no_urls():
    assert not is_url(r"C:\shards\1.tar")
    assert not is_url("file:///shards/1.tar")
    assert is_url("hf://datasets/x/1.tar")
    assert is_url("pipe:cat x")


@pytest.mark.parametrize("count", [7, 8, 100])
def test_processes_share_all_shards(count):
    shards = [f"{i}.tar" for i in range(count)]
    parts = [split_shards(shards, rank, 7) for rank in range(7)]
    assert sorted(shard for part in parts for shard in part) == sorted(shards)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_without_shards_is_refused():
    with pytest.raises(DataError, match=r"2 shard.*3 processes.*at most 2"):
        split_shards(["a", "b"], 0, 3)
    with pytest.raises(ValueError, match="0-1"):
        split_shards(["a", "b"], 2, 2)


def test_labels_outlive_a_move():
    here = ["/data/x/00000.tar", "/data/x/00001.tar"]
    there = ["s3://bucket/y/00000.tar", "pipe:aws s3 cp s3://b/00001.tar - | /usr/bin/cat"]
    signed = ["https://host/00000.tar?signature=a/b.tar", "https://host/00001.tar?signature=c"]
    assert shard_labels(here) == shard_labels(there) == shard_labels(signed) == ["00000.tar", "00001.tar"]


def test_labels_tell_two_sets_apart():
    assert shard_labels(["/d/a/v/0.tar", "/d/b/v/0.tar", "1.tar"]) == ["a/v/0.tar", "b/v/0.tar", "1.tar"]
    pipes = ["pipe:unpack /x/one --cat", "pipe:unpack /x/two --cat"]
    assert len(set(shard_labels(pipes))) == 2
    assert shard_labels([]) == []


def test_a_fingerprint_changes_with_the_file_alone(tmp_path):
    path = tmp_path / "a" / "1.tar"
    path.parent.mkdir()
    path.write_bytes(b"one")
    first = shard_fingerprint(str(path))
    path.parent.rename(tmp_path / "b")
    moved = tmp_path / "b" / "1.tar"
    assert shard_fingerprint(str(moved)) == first
    os.utime(moved, ns=(5, 5))
    touched = shard_fingerprint(str(moved))
    moved.write_bytes(b"longer")
    os.utime(moved, ns=(5, 5))
    assert len({first, touched, shard_fingerprint(str(moved))}) == 3
    assert shard_fingerprint("pipe:cat x.tar") == "pipe:cat x.tar"
    with pytest.raises(DataError, match=r"gone\.tar: cannot be read"):
        shard_fingerprint("gone.tar")
