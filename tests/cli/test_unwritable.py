"""Files that cannot be made are said in one sentence, before anything is measured."""

import sys
from pathlib import Path

import pytest

from kdedge.cli import main
from kdedge.files import check_writable, write_text


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kdedge", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("option", ["--out", "--markdown"])
def test_bench_finds_out_at_once(
    option: str, color_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "below.json"
    monkeypatch.setattr("kdedge.runtime.bench.run.run_bench", lambda *_: pytest.fail("it measured"))
    assert run(monkeypatch, "bench", color_model, option, target) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {target}: ")


def test_split_is_one_sentence(
    color_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "data", "split", color_images, "--k", 1, "--out", tmp_path / "file" / "a.csv") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path / 'file'}")


def test_nothing_is_left(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.json", None)
    assert list((tmp_path / "new").iterdir()) == []
    write_text(tmp_path / "new" / "a.json", "kept")
    check_writable(tmp_path / "new" / "a.json")
    assert (tmp_path / "new" / "a.json").read_text() == "kept"
    assert len(list((tmp_path / "new").iterdir())) == 1
    with pytest.raises(OSError, match=r"below\.txt"):
        write_text(tmp_path / "new" / "a.json" / "below.txt", "")
