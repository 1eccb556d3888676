"""The device install: a wheel without extras in a fresh virtual environment, where torch and onnx must not be."""

import json
import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import COLORS, color_card, write_color_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MOST_MEGABYTES = 400  # numpy 75, opencv-python 190, onnxruntime 80


def run(*words: object, cwd: Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=cwd, env={**kept, **variables}, check=False
    )
    assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("build") is None or find_spec("hatchling") is None:
        pytest.skip("build and hatchling are needed to make a wheel: pip install 'kdedge[dev]' hatchling")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (made,) = out.glob("kdedge-*.whl")
    return made


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds kdedge and what its device install asks for."""
    home = tmp_path_factory.mktemp("bare") / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pins = ["-c", ROOT / "constraints.txt"] if (ROOT / "constraints.txt").is_file() else []
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins, wheel, cwd=home)
    return home / "bin"


def test_what_is_in_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    for name in (
        "kdedge/py.typed",
        "kdedge/runtime/report/report.css",
        "kdedge/cli/app.py",
        "kdedge/training/distill.py",
    ):
        assert name in names
    zoo = {path.relative_to(ROOT / "models").as_posix() for path in (ROOT / "models").rglob("*") if path.is_file()}
    assert zoo
    assert {f"kdedge/_models/{name}" for name in zoo} <= names
    assert {name.split("/")[0] for name in names} == {
        "kdedge",
        next(n for n in names if ".dist-info" in n).split("/")[0],
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pth", ".npy"))]
    assert "kdedge = kdedge.cli:main" in entry
    plain = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not [line for line in plain if any(name in line for name in ("torch", "timm", "scikit", "onnx>"))]


def test_neither_torch_nor_onnx(bare: Path, tmp_path: Path) -> None:
    code = "from importlib.util import find_spec as f; print([n for n in ('torch', 'onnx', 'timm', 'sklearn') if f(n)])"
    assert run(bare / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_help_and_version(bare: Path, tmp_path: Path) -> None:
    from kdedge import __version__

    assert run(bare / "kdedge", "--version", cwd=tmp_path).stdout == f"kdedge {__version__}\n"
    overview = run(bare / "kdedge", "--help", cwd=tmp_path).stdout
    for command in ("quickstart", "distill", "export", "classify", "evaluate", "bench", "data"):
        assert f"\n  {command}" in overview
        assert "Example" in run(bare / "kdedge", command, "--help", cwd=tmp_path).stdout or command == "data"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export of two files, as kdedge export leaves them."""
    write_color_model(tmp_path / "runs/colors/student.onnx")
    write_color_model(tmp_path / "runs/colors/student.int8.onnx", color_card(precision="int8"))
    return tmp_path / "runs/colors"


def test_classify_evaluate_and_bench(bare: Path, exported: Path, color_images: Path, tmp_path: Path) -> None:
    done = run(bare / "kdedge", "classify", color_images, "--json", cwd=tmp_path)  # finds the newest run
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 12
    assert all(answer["label"] == Path(answer["image"]).parent.name for answer in answers)
    assert {answer["label"] for answer in answers} == set(COLORS)
    scores = json.loads(run(bare / "kdedge", "evaluate", exported, color_images, "--json", cwd=tmp_path).stdout)
    assert scores["accuracy"] == 1.0
    words = ["bench", exported, "--teacher", "none", "--repeats", 2, "--json"]
    assert len(json.loads(run(bare / "kdedge", *words, cwd=tmp_path).stdout)["rows"]) == 2
    check = run(bare / "kdedge", "data", "check", color_images, "--json", cwd=tmp_path)
    assert json.loads(check.stdout)["images"] == 12


@pytest.mark.parametrize(
    "words",
    [
        ["quickstart"],
        ["distill", "--teacher", "timm/resnet10t", "--transfer", ".", "--out", "a"],
        ["export", "runs/colors"],
        ["bench", "--student", "timm/resnet10t"],
        ["data", "generate", "--out", "made"],
    ],
)
def test_what_needs_the_extra_says_how_to_get_it(bare: Path, exported: Path, tmp_path: Path, words: list[str]) -> None:
    done = run(bare / "kdedge", *words, cwd=tmp_path, code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "kdedge[train]" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kdedge-cache", "runs"] or not (tmp_path / "a").exists()


def test_size_of_the_install(bare: Path) -> None:
    """What pip brought along is not counted."""
    (site,) = bare.parent.glob("lib/python*/site-packages")
    ours = [
        path for path in site.rglob("*") if path.is_file() and not path.relative_to(site).parts[0].startswith("pip")
    ]
    megabytes = sum(path.stat().st_size for path in ours) / 1e6
    print(f"{megabytes:.0f} MB")
    assert megabytes < MOST_MEGABYTES
    kdedge = sum(path.stat().st_size for path in ours if "kdedge" in path.parts)
    print(f"kdedge {kdedge / 1e6:.1f} MB")
    assert kdedge < 14e6  # the zoo 7.6, code 1.8, its bytecode 2.8
