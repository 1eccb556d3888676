"""What is written for people is true: commands exist, paths exist, and the walk through the README works on small images."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.main import get_command

from kdedge.cli import main
from kdedge.cli.app import app
from tests.conftest import COLORS, write_color_model

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "models/README.md",
    "benchmarks/README.md",
    "docs/scale.md",
    "docs/export.md",
    "docs/unknown.md",
    "docs/device.md",
    "docs/laptop.md",
    "docs/raspberry-pi.md",
    "docs/jetson.md",
    "docs/browser.md",
)
SCRIPTS = ("quickstart", "test", ".ci/run", ".ci/environment.sh")


def blocks(page: str, language: str) -> list[str]:
    """The fenced code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def lines(block: str) -> list[list[str]]:
    """The words of each command, without comments and redirections."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        end = next((number for number, word in enumerate(words) if word in (">", "|", "&&", ";")), len(words))
        if words:
            found.append(words[:end])
    return found


def inline(page: str) -> list[list[str]]:
    """Commands between backticks in the text."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(code) for code in re.findall(r"`((?:kdedge|python -m benchmarks)[^`]*)`", text) if " " in code]


def shown(page: str) -> list[list[str]]:
    return [words for block in blocks(page, "sh") for words in lines(block)] + inline(page)


def parse(words: list[str], whole: bool = True) -> None:
    """Resolve ``kdedge ...`` down to its command and parse what follows; nothing runs."""
    command, context = get_command(app), None
    name, *rest = words
    while hasattr(command, "commands"):
        context = command.make_context(name, [*rest], parent=context, resilient_parsing=not rest)
        remaining = [*getattr(context, "_protected_args", []), *context.args]
        if not remaining:
            return
        name, command, rest = command.resolve_command(context, remaining)
        assert command is not None, words
    if whole or rest:
        command.make_context(name, [*rest], parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_parse(page: str) -> None:
    for words in shown(page):
        if words[0] == "kdedge":
            parse(words, whole=len(words) > 2 and words not in inline(page))
        elif words[0] == "./quickstart":
            parse(["kdedge", "quickstart", *words[1:]])
        elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
            import_module(words[2]).parser().parse_args(words[3:])
        elif words[0].startswith("./") and words[0] != "./test" and not page.startswith("docs/"):
            pytest.fail(f"{page}: {' '.join(words)} is not known to this test")


def test_the_readme_shows_every_command() -> None:
    used = {tuple(words[1:3]) for words in shown("README.md") if words[0] == "kdedge"}
    for name, command in get_command(app).commands.items():
        for below in getattr(command, "commands", [None]):
            if name != "quickstart":  # shown as ./quickstart
                assert any(words[: 2 if below else 1] == ((name, below) if below else (name,)) for words in used), name


def examples() -> list[tuple[str, list[str]]]:
    """The examples in the help of every command."""
    found = []
    for name, command in get_command(app).commands.items():
        for below in getattr(command, "commands", {name: command}).values():
            text = (below.help or "").partition("Examples:")[2]
            found += [(below.name, words) for words in lines(text) if words[0] == "kdedge"]
    return found


def test_examples_in_the_help_parse() -> None:
    assert {name for name, _ in examples()} >= {"check", "split", "distill", "export", "classify", "evaluate", "bench"}
    for _, words in examples():
        parse(words)


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["kdedge", "classify", "photo.jpg", "--colour"])


@pytest.mark.parametrize("page", PAGES)
def test_paths_on_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in link:
            assert (ROOT / page).parent.joinpath(link).exists(), link
    for path in re.findall(r"`((?:benchmarks|examples|models|tests|kdedge)/[\w./-]+|[\w./-]+\.(?:toml|txt|md))`", text):
        assert any((home / path).exists() for home in (ROOT, ROOT / "kdedge")) or path in RUN_FILES, path
    for word in re.findall(r"`\./(\w+)`", text):
        assert (ROOT / word).stat().st_mode & 0o111, word


RUN_FILES = ("config.toml", "recipe.toml")  # of a run and of an entry of the zoo


def test_no_path_of_one_machine() -> None:
    for page in (*PAGES, *SCRIPTS, "constraints.txt"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|opt|work|tmp|Users)/", text), page


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    if script != ".ci/environment.sh":
        assert (ROOT / script).stat().st_mode & 0o111


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = f". {ROOT}/.ci/environment.sh; KDEDGE_PYTHON={old} find_python"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: KDEDGE_PYTHON={old} is not a Python of 3.11 or newer.\n"


def test_only_a_virtual_environment_is_removed(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/this").touch()
    command = f". {ROOT}/.ci/environment.sh; discard {tmp_path}/keep"
    assert subprocess.run(["bash", "-c", command], capture_output=True, check=False).returncode == 1
    assert (tmp_path / "keep/this").exists()
    (tmp_path / "keep/pyvenv.cfg").touch()
    subprocess.run(["bash", "-c", command], check=True)
    assert not (tmp_path / "keep").exists()


SMALLER = {
    "distill": "--student timm/resnet10t --student-weights random --teacher-weights random --size 32 --train-views 2",
    "evaluate": "--batch 4",
    "export": "--calibration minmax --min-speedup 0 --max-drop 100",
    "bench": "--teacher none --repeats 2 --threads 1",
}
"""Options that are put after those of the README (the last one counts), so that a command takes seconds."""

ELSEWHERE = ("faces", "generate", "--faces")
"""These need demo wheels, and are run by their own tests."""


def smaller(words: list[str]) -> list[str]:
    more = SMALLER.get(words[1], "").split()
    if "--minutes" in words:
        more += ["--minutes", "0.02"]
    elif words[1] == "distill":
        more += ["--steps", "2", "--teacher-size", "64"]
    if "--student" in words and words[1] == "bench":
        more += ["--student", "timm/resnet10t", "--size", "32"]
    return [*words, *more]


@pytest.mark.slow
def test_walk_through_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, names, count in (("labelled", tuple(COLORS), 20), ("photos", ("",), 12)):
        for name in names:
            Path(folder, name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (40, 40, 3)) + np.asarray(COLORS.get(name, (90, 90, 90)))[::-1] // 2
                assert cv2.imwrite(f"{folder}/{name}/{number}.jpg", pixels.astype(np.uint8))
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(Path("photos/0.jpg").read_bytes())
    write_color_model(Path("teacher.onnx"))

    (own,) = re.findall(
        r"## Your own images\n(.*?)\n## ", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    commands = [words for block in re.findall(r"```sh\n(.*?)```", own, re.DOTALL) for words in lines(block)]
    ran = []
    for words in commands:
        if words[2] in ELSEWHERE:
            continue
        monkeypatch.setattr(sys, "argv", smaller(words))
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, f"{words}: {capsys.readouterr().err}"
        ran.append(words[1])
    assert set(ran) == {"data", "distill", "export", "evaluate", "classify", "bench"}
    assert Path("runs/first/student.int8.onnx").is_file()

    (python,) = blocks("README.md", "python")
    capsys.readouterr()
    exec(compile(python, "README.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["a.jpg", "b.jpg"]
