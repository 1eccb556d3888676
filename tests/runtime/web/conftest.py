"""A browser, onnxruntime-web, and sites to look at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from kdedge.runtime.web.ort_web import COMMAND, VERSION, Runtime, find_runtime
from tests.runtime.web.browser import ARGUMENTS, chromium, required


@pytest.fixture(scope="session")
def fetched() -> Runtime:
    """onnxruntime-web, wherever whoever runs the tests has it: no test downloads it."""
    found = find_runtime()
    if found is None:
        required(f"onnxruntime-web was not fetched; run '{COMMAND}'")
    assert found is not None
    return found


@pytest.fixture
def runtime(fetched: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runtime:
    """The same, in the cache of this test."""
    cache = tmp_path / "web-cache"
    folder = cache / "web" / VERSION
    folder.parent.mkdir(parents=True)
    folder.symlink_to(fetched.folder, target_is_directory=True)
    monkeypatch.setenv("KDEDGE_CACHE", str(cache))
    return Runtime(folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None or not shutil.which(path):
        required("there is no Chromium; install it (apt install chromium) or name it in KDEDGE_CHROMIUM")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1000, "height": 800})
    made.set_default_timeout(20_000)
    yield made
    made.close()
