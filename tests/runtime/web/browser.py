"""Chromium, a plain web server, and a watch over what a page does."""

import base64
import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import ConsoleMessage, Page, Request

__all__ = ["ARGUMENTS", "Watch", "array", "chromium", "required", "serving"]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def required(reason: str) -> None:
    """Skip what cannot be run here, or fail where ``$KDEDGE_BROWSER_TESTS`` says that it must run."""
    if os.environ.get("KDEDGE_BROWSER_TESTS") == "1":
        pytest.fail(f"KDEDGE_BROWSER_TESTS=1, but {reason}")
    pytest.skip(reason)


def chromium() -> str | None:
    """The browser of the system; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("KDEDGE_CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def serving(folder: Path, isolated: bool = False) -> Iterator[str]:
    """The URL of what ``python -m http.server`` would serve, with the headers that allow threads if ``isolated``."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if isolated:
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Watch:
    """What a page said and asked for.

    Attributes:
        said: warnings and errors on its console, and exceptions.
        asked: URLs.
    """

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @classmethod
    def over(cls, page: Page) -> "Watch":
        watch = cls()

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                watch.said.append(message.text)

        def requested(request: Request) -> None:
            watch.asked.append(request.url)

        page.on("console", heard)
        page.on("pageerror", lambda error: watch.said.append(str(error)))
        page.on("request", requested)
        return watch

    def elsewhere(self, url: str) -> list[str]:
        """Requests to another host than that of ``url``; blobs are the page's own."""
        return [
            each
            for each in self.asked
            if urlsplit(each).scheme != "blob" and urlsplit(each).netloc != urlsplit(url).netloc
        ]


def array(value: dict[str, Any], dtype: type) -> NDArray[Any]:
    """What CLASSIFY gives as base64."""
    return np.frombuffer(base64.b64decode(value), dtype)


CLASSIFY = """async (names) => {
  const { openSite, openCard } = await import("./site.js");
  const { BrowserPlace } = await import("./browser.js");
  const site = await openSite();
  const place = new BrowserPlace(site, await openCard(site));
  const info = await place.prepare(() => {});
  const packed = (values) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    let text = "";
    for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
    return btoa(text);
  };
  const answers = [];
  for (const name of names) {
    const blob = await (await fetch(name)).blob();
    try {
      const answer = await place.classify(blob, { top: 100, name, raw: true });
      for (const key of ["pixels", "input", "values"]) answer[key] = packed(answer[key]);
      answers.push(answer);
    } catch (error) {
      answers.push({ problem: error.message, kind: error.name });
    }
  }
  return { info, answers };
}"""
"""Classify files of the site in the browser, and give what the network got and gave as base64."""
