"""What every request passes before it is served: the clock and the counters, the name of the host, the key."""

import asyncio
import sys
import traceback
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdedge.runtime.server.auth import Keys, host_of
from kdedge.runtime.server.errors import PROBLEM, Problem
from kdedge.runtime.server.limits import Disconnected
from kdedge.runtime.server.metrics import Metrics
from kdedge.runtime.server.page import SECURITY

__all__ = ["Door", "Gate", "Seen", "send_problem"]

ROUTES = frozenset({"/v1/classify", "/v1/model", "/v1/model.onnx", "/healthz", "/metrics", "/openapi.json", "/docs"})
"""What the metrics name; every other address counts as one, lest a client makes up new series."""


@dataclass(frozen=True)
class Seen:
    """A request that was answered, or whose client left (status 499)."""

    method: str
    path: str
    status: int
    seconds: float
    client: str
    images: int


class Gate:
    """The outermost layer: counts, adds the headers of every answer, and turns what was raised into an answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, say: Callable[[Seen], None] | None) -> None:
        self.app = app
        self.metrics = metrics
        self.say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        status = 0

        async def outward(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), *SECURITY]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, outward)
        except Disconnected:
            status = 499
            self.metrics.gone.inc()
        except asyncio.CancelledError:  # the server is stopped and the time for running requests is up
            if not status:
                stopping = Problem(503, "stopping", "The server is being stopped.", {"Retry-After": "5"})
                await send_problem(outward, stopping)
        except Exception:  # told in full here, not to the client
            traceback.print_exc(file=sys.stderr)
            if not status:
                await send_problem(outward, Problem(500, "fault", "The server failed on this request."))
        finally:
            self.metrics.in_flight.dec()
            seconds = perf_counter() - began
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.latency.labels(route).observe(seconds)
            if self.say:
                client = scope["client"][0] if scope.get("client") else ""
                images = scope.get("state", {}).get("images", 0)
                self.say(Seen(scope["method"], scope["path"], status, seconds, client, images))


class Door:
    """Lets in requests that are addressed to this server, come from no foreign page, and carry the key where one is set.

    Args:
        app: what is behind it.
        hosts: names a request may be addressed to; None for all.
        origins: of pages that may call the API, beside the server's own.
        keys: open the API and the metrics; the page, the description and the health are open.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, origins: tuple[str, ...], keys: Keys) -> None:
        self.app = app
        self.hosts = hosts
        self.origins = frozenset(origin.encode() for origin in origins)
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        if scope["type"] == "http" and (problem := self._refusal(scope)):
            await send_problem(send, problem)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Problem | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        found = dict(headers)
        host = found.get(b"host", b"")
        if self.hosts is not None and host and host_of(host) not in self.hosts:
            return Problem(421, "wrong_host", "This server does not answer to that name; see --allow-host.")
        preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in found
        path: str = scope["path"]
        if not path.startswith("/v1/") and path != "/metrics":
            return None
        origin = found.get(b"origin", b"")
        if origin and b"*" not in self.origins and origin not in self.origins:
            own = (b"http://" + host, b"https://" + host)
            if origin.lower() not in [one.lower() for one in own]:
                return Problem(403, "wrong_origin", "Pages of that origin may not call this server; see --cors.")
        if self.keys and not preflight and not self.keys.admits(headers):
            return Problem(
                401,
                "no_key",
                "An API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY.",
                {"WWW-Authenticate": "Bearer"},
            )
        return None


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem."""
    body = problem.body()
    given = {"Content-Type": PROBLEM, "Content-Length": str(len(body)), **problem.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
