"""``kdedge doctor`` from the outside: on this machine, and on ones whose libraries are broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.test_imports import HEAVY, loaded_after

APP = """
import typer
from kdedge.cli.doctor import doctor
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(doctor)
"""


def run(folder: Path, *words: str, before: str = "", broken: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a folder of broken modules in front of the others."""
    code = f"import sys\nsys.path[:0] = {[str(broken)] if broken else []!r}\n{before}\n{APP}\napp({list(words)!r})"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment(), check=False
    )


def test_the_table(tmp_path: Path, color_model: Path) -> None:
    done = run(tmp_path, "--model", str(color_model))
    lines = done.stdout.splitlines()
    starts = [line for line in lines if line and line[0] != " "]
    assert {line.split()[0] for line in starts[:-1]} <= {"ok", "note", "warning", "PROBLEM"}
    assert "\033" not in done.stdout
    (count,) = [line for line in starts if line.endswith(("warnings", "warning"))]
    problems = sum(line.startswith("PROBLEM") for line in starts)
    assert count.startswith("no problems" if not problems else f"{problems} problem")
    assert done.returncode == (1 if problems else 0)
    (model,) = [line for line in starts if line[9:].startswith("model ")]
    assert "colors (fp32, as given) takes" in model


def test_json(tmp_path: Path, color_model: Path) -> None:
    done = run(tmp_path, "--json", "--model", str(color_model))
    value = json.loads(done.stdout)
    assert value["problems"] == sum(check["status"] == "problem" for check in value["checks"])
    assert set(value["checks"][0]) == {"name", "status", "found", "advice", "details"}
    assert done.returncode == (1 if value["problems"] else 0)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')"),
        ("onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    ],
)
def test_a_broken_library_is_a_problem_and_everything_else_is_told(tmp_path: Path, module: str, code: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{module}.py").write_text(code)
    done = run(tmp_path, "--json", broken=broken)
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    title = {"cv2": "OpenCV", "onnxruntime": "onnxruntime"}[module]
    assert checks[title]["status"] == "problem"
    assert checks[title]["advice"]
    assert {"processor", "memory", "threads", "cameras"} <= set(checks)


def test_both_onnxruntime_wheels_are_a_problem_with_the_fix(tmp_path: Path) -> None:
    both = tmp_path / "both"
    (both / "onnxruntime_gpu-1.31.1.dist-info").mkdir(parents=True)
    (both / "onnxruntime_gpu-1.31.1.dist-info/METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    done = run(tmp_path, "--no-probe", broken=both)
    assert done.returncode == 1
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in done.stdout


def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path, "--no-probe", "--camera", "87")
    assert done.returncode == 1
    assert "PROBLEM  camera 87" in done.stdout


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = f"{APP}\nimport io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    code += "    try:\n        app(['--json', '--no-probe'])\n    except SystemExit:\n        pass"
    assert not loaded_after(code, tmp_path) & HEAVY
    assert not loaded_after("import kdedge.cli.doctor, kdedge.runtime.doctor.run", tmp_path) & HEAVY


def test_colours_and_wrapping_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdedge.cli import doctor as command
    from kdedge.runtime.doctor.check import Check

    check = Check("memory", "problem", "word " * 30, "do this \x1b[31mnow " * 12)
    monkeypatch.setattr(command.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = command._lines(check)
    assert lines[0].startswith("\033[1;31mPROBLEM\033[0m  memory")
    assert all(len(line) <= 80 for line in lines[1:])
    assert not any("\033[31m" in line for line in lines)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in "".join(command._lines(check))
