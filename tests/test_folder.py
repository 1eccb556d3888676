"""Folders of images, labelled and not."""

from pathlib import Path

import pytest

from kdedge.data.folder import class_folders, find_images
from kdedge.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_at_any_depth_in_a_fixed_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "x/y/z.webp", "notes.txt", ".hidden.png", ".git/c.png", "x/.d/e.png")
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == ["a.png", "b.JPG", "x/y/z.webp"]


def test_a_hidden_folder_that_is_asked_for_is_read(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/a.png")
    assert len(find_images(tmp_path / ".cache")) == 1


def test_what_is_no_folder_of_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt", "a.png")
    for path, reason in (("absent", "no such folder"), ("a.png", "is a file"), ("empty", "no images")):
        with pytest.raises(DataError, match=reason):
            find_images(tmp_path / path)


def test_classes_as_found(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.png", "cat/1.png", "cat/more/2.png", ".tmp/9.png", "stray.txt")
    data = class_folders(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.labels == (0, 0, 1)
    assert data.counts() == [2, 1]
    assert len(data) == 3
    assert [path.name for path in data.paths] == ["1.png", "2.png", "1.png"]


def test_classes_as_expected(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.png", "cat/1.png")
    data = class_folders(tmp_path, ("dog", "bird", "cat"))
    assert data.classes == ("dog", "bird", "cat")
    assert data.labels == (0, 2)
    assert data.counts() == [1, 0, 1]
    with pytest.raises(DataError, match="'dog' is not among the 2 known classes"):
        class_folders(tmp_path, ("bird", "cat"))


def test_too_few_classes_or_images(tmp_path: Path) -> None:
    touch(tmp_path, "all/1.png")
    with pytest.raises(DataError, match="only one class"):
        class_folders(tmp_path)
    with pytest.raises(DataError, match="no class folders"):
        class_folders(tmp_path / "all")
    touch(tmp_path, "none/notes.txt")
    with pytest.raises(DataError, match="none: the class has 0 image"):
        class_folders(tmp_path)
    touch(tmp_path, "none/1.png")
    with pytest.raises(DataError, match="at least 2 are needed"):
        class_folders(tmp_path, least=2)
    touch(tmp_path, "all/2.png", "none/2.png")
    with pytest.raises(DataError, match="absent: the class has 0 image"):
        class_folders(tmp_path, ("absent", "all", "none"), least=2)
