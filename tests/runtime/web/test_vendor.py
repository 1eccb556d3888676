"""The step that fetches onnxruntime-web, with a small package in its place."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kdedge.errors import RunError
from kdedge.runtime.web import vendor
from kdedge.runtime.web.ort_web import FILES, PACKAGE, VERSION, find_runtime
from kdedge.runtime.web.vendor import fetch_package, install, main
from tests.conftest import environment
from tests.runtime.web.browser import serving


def package(leave_out: str = "") -> bytes:
    """A ``.tgz`` with the files that are needed, and one that is not."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name in (*FILES, "ort.all.mjs"):
            if name != leave_out:
                entry = tarfile.TarInfo(f"package/dist/{name}")
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name.encode()))
    return made.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A package that is taken for the real one."""
    data = package()
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    monkeypatch.setattr(vendor, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setattr("kdedge.runtime.web.ort_web.inside_package", lambda: tmp_path / "nowhere")
    return data


def test_the_pinned_digest_is_one() -> None:
    kind, _, digest = vendor.INTEGRITY.partition("-")
    assert kind == "sha512"
    assert len(base64.b64decode(digest, validate=True)) == 64


def test_install_and_find(small: bytes) -> None:
    assert find_runtime() is None
    made = install(small)
    found = find_runtime()
    assert found == made
    assert sorted(path.name for path in made.folder.iterdir() if path.suffix != ".txt") == sorted(FILES)
    assert "Microsoft" in (made.folder / "LICENSE.txt").read_text()
    assert all((made.folder / name).read_text() == name for name in FILES)
    assert made.describe()["bytes"] == sum(len(name) for name in FILES)
    assert install(small) == made  # once more does no harm
    assert sorted(path.name for path in made.folder.parent.iterdir()) == [VERSION]


def test_another_package_is_refused(small: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not onnxruntime-web .* its sha512 is"):
        install(small + b" ", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert find_runtime() is None


def test_a_folder_of_something_else_stays(small: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        install(small, tmp_path)
    assert (tmp_path / "photo.jpg").read_text() == "mine"


def test_the_command(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "package.tgz"
    file.write_bytes(small)
    assert main(["--from", str(file), "--to", str(tmp_path / "to")]) == 0
    assert "MIT licence" in capsys.readouterr().out
    assert main(["--from", str(tmp_path / "absent.tgz")]) == 2
    assert capsys.readouterr().err.startswith("error: ")

    folder = tmp_path / "registry" / PACKAGE / "-"
    folder.mkdir(parents=True)
    (folder / f"{PACKAGE}-{VERSION}.tgz").write_bytes(small)
    with serving(tmp_path / "registry") as url:
        assert main(["--registry", url]) == 0
        assert find_runtime() is not None
        monkeypatch.setenv("npm_config_registry", url + "/")
        seen: list[tuple[int, int]] = []
        assert fetch_package(progress=lambda done, total, note="", /: seen.append((done, total))) == small
        assert seen[-1] == (len(small), len(small))
    with pytest.raises(RunError, match=r"cannot be downloaded .*--registry"):
        fetch_package(url)  # nobody listens any more
    with pytest.raises(RunError, match="not the URL of an npm registry"):
        fetch_package("ftp://registry")


def test_help_has_examples_and_nothing_is_loaded_for_it() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "kdedge.runtime.web.vendor", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, env={**environment(), "COLUMNS": "100"}, check=True)
    assert "python -m kdedge.runtime.web.vendor --from" in done.stdout
    assert not [name for name in ("numpy", "cv2", "onnxruntime") if f" {name}\n" in done.stderr]
    assert os.linesep
