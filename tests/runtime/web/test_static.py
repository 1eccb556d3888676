"""The page's files, and the folder that is exported, without a browser."""

import json
import re
from pathlib import Path

import pytest

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import CardError, ModelError, RunError
from kdedge.runtime.web import ort_web
from kdedge.runtime.web.assets import CSP, page_files
from kdedge.runtime.web.ort_web import FILES, VERSION
from kdedge.runtime.web.static import export_static, model_for_browser
from tests.conftest import color_card, write_color_model


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache where something of the right names stands for onnxruntime-web."""
    folder = tmp_path / "cache" / "web" / VERSION
    folder.mkdir(parents=True)
    for name in (*FILES, "LICENSE.txt"):
        (folder / name).write_text(name)
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ort_web, "inside_package", lambda: tmp_path / "nowhere")
    return folder


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ort_web, "inside_package", lambda: tmp_path / "nowhere")


def test_files_of_a_server(pretended: Path) -> None:
    found = page_files()
    site = json.loads(found["site.json"][0])
    assert (site["mode"], site["card"], site["network"]) == ("server", "v1/model", "v1/model.onnx")
    assert site["runtime"]["version"] == VERSION
    assert found[site["runtime"]["wasm"]] == (b"ort-wasm-simd-threaded.wasm", "application/wasm")
    assert found[site["runtime"]["script"]][1].startswith("text/javascript")
    assert found["index.html"][1].startswith("text/html")
    assert found["ort/LICENSE.txt"][0]


@pytest.mark.usefixtures("nothing")
def test_files_of_a_server_without_onnxruntime_web() -> None:
    found = page_files()
    assert json.loads(found["site.json"][0])["runtime"] is None
    assert not [name for name in found if name.startswith("ort/")]


@pytest.mark.usefixtures("nothing")
def test_all_that_the_page_names_is_there_and_nothing_is_elsewhere() -> None:
    """Scripts import what exists; no file but the licences names another host; the policy is the one that is promised."""
    found = {name: data.decode() for name, (data, _) in page_files().items()}
    assert CSP in found["index.html"]
    named = re.findall(r'(?:src|href)="([^"]+)"', found["index.html"])
    assert {name for name in named if not name.startswith("ort/")} <= set(found)
    for name, text in found.items():
        for other in re.findall(r'(?:from|import) ?\(?"\./([^"]+)"|new URL\("([^"]+\.js)"', text):
            assert "".join(other) in found, (name, other)
        hosts = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}
        assert not hosts, (name, hosts)
        assert not re.search(r"<[^>]+\s(?:style|on\w+)=", text), name
    ids = set(re.findall(r'id="([^"]+)"', found["index.html"]))
    for name, text in found.items():
        assert set(re.findall(r'\$\("([^"]+)"\)', text)) - {"total"} <= ids, name


def test_what_is_exported(pretended: Path, color_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "site"
    written = export_static(color_model, out)
    assert sorted(written) == sorted(path for path in out.rglob("*") if path.is_file())
    assert written[-1].name == "index.html"  # a site that can be opened is whole
    assert (out / "model.onnx").read_bytes() == color_model.read_bytes()
    card = json.loads((out / "model.json").read_text())
    assert ModelCard.from_json(json.dumps(card)).labels == color_card().labels
    assert card["bytes"] == color_model.stat().st_size
    site = json.loads((out / "site.json").read_text())
    assert site["mode"] == "static"
    assert site["network"] == f"model.onnx?{card['sha256'][:12]}"
    assert (out / site["runtime"]["wasm"]).read_text() == "ort-wasm-simd-threaded.wasm"
    for name in (site["card"], site["network"], site["runtime"]["script"]):
        assert not name.startswith(("/", "http"))  # it may lie anywhere
    assert "Cross-Origin-Embedder-Policy: require-corp" in (out / "_headers").read_text()


def test_another_model_gets_another_address(pretended: Path, tmp_path: Path) -> None:
    sites = []
    for gain in (4.0, 5.0):
        export_static(write_color_model(tmp_path / f"{gain}.onnx", gain=gain), tmp_path / "site", overwrite=True)
        sites.append(json.loads((tmp_path / "site" / "site.json").read_text())["network"])
    assert sites[0] != sites[1]


def test_a_folder_that_holds_something(pretended: Path, color_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty.*--overwrite"):
        export_static(color_model, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    export_static(color_model, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(RunError, match="a file is there"):
        export_static(color_model, out / "mine.txt", overwrite=True)


@pytest.mark.usefixtures("nothing")
def test_without_onnxruntime_web(color_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"python -m kdedge\.runtime\.web\.vendor"):
        export_static(color_model, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_what_cannot_be_exported(pretended: Path, tmp_path: Path) -> None:
    import onnx

    bare = write_color_model(tmp_path / "bare.onnx")
    model = onnx.load(bare)
    del model.metadata_props[:]
    onnx.save(model, bare)
    with pytest.raises(CardError, match="no kdedge card"):
        export_static(bare, tmp_path / "site")
    with pytest.raises(ModelError, match="no such model"):
        export_static("nothing-of-this-name", tmp_path / "site")
    assert not (tmp_path / "site").exists()
    assert METADATA_KEY


def test_which_model_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("student.onnx", "student.int8.onnx"):
        write_color_model(run / name)
    own = model_for_browser(run)
    assert own.parent == run
    for name in ("student.web.onnx", "student.web.int8.onnx"):  # each is better than the one before
        write_color_model(run / name)
        assert model_for_browser(run).name == name
    assert model_for_browser(run / "student.onnx").name == "student.onnx"
