"""The pages of the device side: every block of commands says whether it was run; those that say so are run here."""

import configparser
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import COLORS, environment
from tests.runtime.knowing import write_knowing
from tests.test_readme import lines, parse

ROOT = Path(__file__).parents[1]
PAGES = ("device", "laptop", "raspberry-pi", "jetson", "browser")
COMMANDS = ("sh", "python", "powershell", "ini", "nginx")
"""Languages of blocks that somebody would type or copy."""

PATIENCE = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line it begins at, its language, the comment above it (None: there is none), its text."""

    page: str
    line: int
    language: str
    mark: str | None
    text: str

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        return self.mark.partition(":")[2].strip() if self.mark and self.mark.startswith("not run here") else ""

    @property
    def how(self) -> str:
        """What follows ``run``: empty, ``exit code 0 or 1``, ``until it answers``...; the mark itself where it is not run."""
        mark = self.mark or ""
        return mark.removeprefix("run").removeprefix(":").strip() if mark.startswith("run") else mark


def blocks(page: str, text: str | None = None) -> list[Block]:
    """The blocks of ``docs/PAGE.md``."""
    text = text if text is not None else (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    found, rows, at = [], text.splitlines(), 0
    while at < len(rows):
        if fence := re.match(r"```(\w*)$", rows[at]):
            end = next(number for number in range(at + 1, len(rows)) if rows[number] == "```")
            mark = re.fullmatch(r"<!-- (.*) -->", rows[at - 1]) if at else None
            body = "\n".join(rows[at + 1 : end]) + "\n"
            found.append(Block(page, at + 1, fence[1], mark[1] if mark else None, body))
            at = end
        at += 1
    return found


def unmarked(found: list[Block]) -> list[str]:
    """Where a mark is missing, unknown, or gives no reason."""
    ways = ("", "exit code 0 or 1", "until it answers", "while it answers", "with KDEDGE_BROWSER_TESTS")
    return [
        f"docs/{block.page}.md:{block.line}: {block.mark}"
        for block in found
        if block.language in COMMANDS
        and not block.reason
        and not (block.mark and block.mark.startswith("run") and block.how in ways)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_whether_it_was_run(page: str) -> None:
    found = blocks(page)
    assert found
    assert not unmarked(found)
    assert all(block.language for block in found), "a block without a language"


def test_a_block_without_a_mark_or_a_reason_is_noticed() -> None:
    page = "{}\n```sh\nkdedge info\n```\n"
    for above in ("", "<!-- not run here: -->", "<!-- perhaps -->", "<!-- run: some day -->", "text"):
        assert unmarked(blocks("x", page.format(above))), above
    for above in ("<!-- run -->", "<!-- not run here: needs a Jetson -->", "<!-- run: until it answers -->"):
        assert not unmarked(blocks("x", page.format(above))), above


def kdedge_commands(page: str) -> Iterator[tuple[int, list[str]]]:
    """Every ``kdedge ...`` of a page's blocks with its line, also behind ``&&`` or ``docker run``."""
    for block in blocks(page):
        if block.language == "sh":
            for words in lines(block.text.replace("&&", "\n").replace(" &\n", "\n")):
                if words[0] == "kdedge" and len(words) > 1:
                    yield block.line, words


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page: str) -> None:
    found = list(kdedge_commands(page))
    assert found
    for line, words in found:
        try:
            parse(words, whole=len(words) > 2)
        except Exception as error:
            pytest.fail(f"docs/{page}.md:{line}: {' '.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES)
def test_shell_python_and_units_are_well_formed(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        where = f"docs/{page}.md:{block.line}"
        if block.language == "sh":
            done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{where}: {done.stderr}"
        elif block.language == "python":
            compile(block.text, where, "exec")
        elif block.language == "ini":
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.optionxform = str  # type: ignore[assignment, method-assign]
            unit.read_string(block.text)
            words = shlex.split(unit["Service"]["ExecStart"])
            parse(["kdedge", *words[1:]])
            verify(block.text, tmp_path)


def verify(unit: str, folder: Path) -> None:
    """Let systemd look at a unit, where it is installed; the programs and users it names need not be there."""
    if shutil.which("systemd-analyze") is None:
        return
    file = folder / "kdedge.service"
    file.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "kdedge.service" in line and "Unknown" in line]
    assert not complaints, complaints


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]+))?\)", text):
        target = ROOT / "docs" / link
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, anchor
    assert not re.search(r"(?<![\w.$])/(?:home|root|work|tmp|Users)/", text)


@pytest.fixture
def place(tmp_path: Path, color_images: Path) -> Path:
    """A folder with what the pages speak of: ``photo.jpg``, ``photos/``, ``runs/first``."""
    folder = tmp_path / "place"
    for name in ("student.onnx", "student.int8.onnx"):
        write_knowing(folder / "runs/first" / name, color_images)
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        pixels = np.clip(np.asarray(color)[::-1] + rng.integers(-40, 40, (40, 50, 3)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"photos/{name}.jpg"), pixels)
    shutil.copy(folder / "photos/red.jpg", folder / "photo.jpg")
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which ``kdedge``, ``python`` and ``python3`` are this checkout's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("kdedge", "-m kdedge "), ("python", ""), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (programs / name).chmod(0o755)
    return {**environment(), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def shell(text: str, place: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        capture_output=True,
        text=True,
        cwd=place,
        env=env,
        check=False,
        timeout=300,
    )


RUN = [block for page in PAGES for block in blocks(page) if block.mark and block.mark.startswith("run")]


def named(how: str) -> list[object]:
    found = [block for block in RUN if block.how == how]
    return [pytest.param(block, id=f"{block.page}-{block.line}") for block in found]


@pytest.mark.parametrize("block", named("") + named("exit code 0 or 1"))
def test_blocks_that_run(block: Block, place: Path, env: dict[str, str]) -> None:
    if block.language == "python":
        done = subprocess.run(
            [sys.executable, "-c", block.text], capture_output=True, text=True, cwd=place, env=env, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        return
    fine = (0, 1) if block.how else (0,)
    for words in block.text.strip().splitlines():
        done = shell(words, place, env)
        assert done.returncode in fine, f"docs/{block.page}.md:{block.line}: {words}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    "KDEDGE_BROWSER_TESTS" not in os.environ, reason="fetches onnxruntime-web; set KDEDGE_BROWSER_TESTS=1"
)
def test_the_static_site(place: Path, env: dict[str, str]) -> None:
    for block in [block for block in RUN if block.how == "with KDEDGE_BROWSER_TESTS"]:
        done = shell(block.text, place, env)
        assert done.returncode == 0, done.stderr
    assert (place / "site/index.html").is_file()
    assert list((place / "site").rglob("*.wasm"))


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.parametrize("block", named("until it answers"))
def test_servers_answer(block: Block, place: Path, env: dict[str, str]) -> None:
    port = str(free_port())
    (place / "site").mkdir()
    (place / "site/index.html").write_text("<title>kdedge</title>")
    (words,) = block.text.strip().splitlines()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {words.replace('8000', port)}"],
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not answers(f"http://127.0.0.1:{port}/"):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "no answer"
            time.sleep(0.05)
        if words.startswith("kdedge"):
            if shutil.which("curl") is None:
                pytest.skip("curl is not installed")
            for after in [later for later in RUN if later.page == block.page and later.how == "while it answers"]:
                done = shell(after.text.replace("8000", port), place, env)
                assert done.returncode == 0, done.stderr
                assert "red" in done.stdout
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
