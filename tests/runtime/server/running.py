"""A server in a thread of this process, and what its tests say to it."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import uvicorn

from benchmarks.serve.client import Reply, ask
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.app import create_app
from kdedge.runtime.server.errors import PROBLEM
from kdedge.runtime.server.gate import Seen
from kdedge.runtime.server.job import Finder
from kdedge.runtime.server.run import address, listen, make_server
from kdedge.runtime.server.settings import Settings
from tests.conftest import COLORS


@dataclass
class Running:
    """A server.

    Attributes:
        seen: requests that were answered.
    """

    url: str
    port: int
    server: uvicorn.Server
    seen: list[Seen] = field(default_factory=list)

    def send(self, data: bytes, *, eof: bool = False, seconds: float = 20.0) -> Reply:
        """Bytes over a connection of their own."""
        return asyncio.run(ask("127.0.0.1", self.port, data, eof=eof, seconds=seconds))

    def post(self, *files: Any, query: str = "", field_name: str = "files", **more: Any) -> httpx.Response:
        """A form of files, each bytes or a pair of name and bytes."""
        pairs = [item if isinstance(item, tuple) else (f"{number}.png", item) for number, item in enumerate(files)]
        parts = [(field_name, pair) for pair in pairs]
        return httpx.post(f"{self.url}/v1/classify{query}", files=parts, timeout=20, **more)

    def metric(self, line: str) -> float:
        """The value of a series by its whole name."""
        text = httpx.get(f"{self.url}/metrics").text
        return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(f"{line} ")), 0.0)


@contextmanager
def running(classifier: Any, finder: Finder | None = None, **settings: Any) -> Iterator[Running]:
    """Serve on a free port."""
    made = Settings(**{"port": 0, "page": False, "decoders": 2, **settings})
    listening = listen(made.host, made.port)
    seen: list[Seen] = []
    server = make_server(create_app(classifier, made, seen.append, finder), made)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield Running(address(listening), listening.getsockname()[1], server, seen)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait_until(met: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something; it fails after ``seconds``."""
    ends = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.005)


def picture(color: str = "red", suffix: str = ".png", size: tuple[int, int] = (24, 20)) -> bytes:
    """An image file of a plain colour."""
    image = np.full((size[1], size[0], 3), COLORS[color][::-1], np.uint8)
    return bytes(cv2.imencode(suffix, image)[1])


def problem(response: httpx.Response | Reply) -> dict[str, Any]:
    """The problem in an answer, which must be one."""
    status = response.status if isinstance(response, Reply) else response.status_code
    body = response.body if isinstance(response, Reply) else response.content
    assert response.headers["content-type"] == PROBLEM
    found = json.loads(body)
    assert set(found) - {"errors"} == {"type", "title", "status", "detail", "code"}
    assert found["status"] == status
    return dict(found)


class Held(Classifier):
    """A classifier that waits, once it is told to, before each run of the network."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 1)
        self.free = threading.Event()
        self.free.set()
        self.runs: list[int] = []

    def predict_fitted(self, fitted: Any, *given: Any, **named: Any) -> Any:
        """As that of the class."""
        assert self.free.wait(20)
        self.runs.append(len(fitted))
        return super().predict_fitted(fitted, *given, **named)
