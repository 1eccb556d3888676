"""What the words of a command line mean."""

import io
import os
from pathlib import Path

import pytest

from kdedge.runtime.sources import Film, Missing, Still, common_folder, expand


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.jpg", "b/c.PNG", "b/d/e.webp", "b/clip.mp4", "b/notes.txt", ".hidden/f.jpg", "b/.g.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "photos")
    return tmp_path / "photos"


def names(*arguments: str, **rest) -> list[str]:
    return [one.name for one in expand(arguments, **rest)]


def test_folders_files_and_patterns(tree: Path) -> None:
    assert names(".") == ["./a.jpg", "./b/c.PNG", "./b/d/e.webp"]
    assert names("a.jpg", ".", "b") == ["a.jpg", "./b/c.PNG", "./b/d/e.webp"], "each once"
    assert names("**/*.webp") == ["b/d/e.webp"]
    assert names("b/*") == ["b/c.PNG", "b/clip.mp4"]
    assert names(".", leave_out=tree / "b") == ["./a.jpg"]
    (tree / "odd[1].jpg").write_bytes(b"x")
    assert names("odd[1].jpg") == ["odd[1].jpg"], "a file of that name comes before the pattern"


def test_what_leads_nowhere_is_said(tree: Path) -> None:
    (tree / "empty").mkdir()
    found = list(expand(["absent.jpg", "*.gif", "empty", "nul\0l", "camera:x"]))
    kinds = [Still, Missing, Missing, Still, Missing]  # of a file, reading it tells what is wrong
    assert [type(one) for one in found] == kinds
    assert all(one.why.startswith(f"{one.name}: ") for one in found if isinstance(one, Missing))


def test_films(tree: Path) -> None:
    assert list(expand(["b/clip.mp4", "camera:2", "/dev/video0", "rtsp://host/a"])) == [
        Film("b/clip.mp4", "b/clip.mp4", False),
        Film("camera:2", 2, True),
        Film("/dev/video0", "/dev/video0", True),
        Film("rtsp://host/a", "rtsp://host/a", None),
    ]


def reader(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_names_through_stdin(tree: Path, end: bytes) -> None:
    assert names("-", stdin=reader(end.join([b"a.jpg", b"b", b"no*.png"]) + end)) == [
        "a.jpg",
        "b/c.PNG",
        "b/d/e.webp",
        "no*.png",
    ]


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"RIFF1234WEBP", b"BM\1\0\0\0"])
def test_an_image_through_stdin(head: bytes) -> None:
    assert list(expand(["-"], reader(head + b"rest"))) == [Still("-", head + b"rest")]


def test_stdin_once_and_not_empty() -> None:
    first, second = expand(["-", "-"], reader(b"a.jpg\n"))
    assert isinstance(first, Still)
    assert isinstance(second, Missing)
    (empty,) = expand(["-"], reader(b""))
    assert isinstance(empty, Missing)
    assert "empty" in empty.why


def test_the_folder_that_all_share(tree: Path) -> None:
    assert common_folder([str(tree / "b/d"), str(tree / "a.jpg")]) == tree
    assert common_folder([str(tree / "b/*.png"), "b/d/e.webp"]) == tree / "b"
    assert common_folder(["camera:0"]) == Path.cwd() == common_folder(["-"])


def test_a_folder_is_not_listed_before_it_is_wanted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scan(path))[1])
    found = expand([str(tree)])
    assert not listed
    next(found)
    assert listed == [str(tree)]
