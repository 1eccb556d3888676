"""Listening, serving until told to stop, and stopping without losing a request."""

import errno
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial

import uvicorn
from fastapi import FastAPI

from kdedge.errors import RunError
from kdedge.runtime.server.protocol import Guard, GuardedProtocol
from kdedge.runtime.server.settings import Settings

__all__ = ["address", "listen", "make_server", "serve_until_stopped"]

BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        RunError: the address is in use, not allowed, or none of this machine.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise RunError(f"host {host!r} is not known; give an address of this machine, such as 127.0.0.1.") from error
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise RunError(_why(host, port, error)) from error
    made.set_inheritable(False)
    return made


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --port, or 0 for a free one."
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has; choose one from 1024 on."
    return f"{host}:{port} cannot be listened on ({error.strerror or error})."


def address(listening: socket.socket) -> str:
    """The URL of a socket, such as ``http://127.0.0.1:8000``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """uvicorn with our limits, and without its own words."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what clients send is their business
    guard = Guard(settings.header_timeout, settings.connections, settings.held_bytes)
    config = uvicorn.Config(
        app,
        http=partial(GuardedProtocol, guard=guard),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )
    return uvicorn.Server(config)


def serve_until_stopped(app: FastAPI, settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, SIGINT or Ctrl-C; returns when running requests are answered or their time is up.

    Must be called in the main thread.
    """
    server = make_server(app, settings)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn has handlers of its own as long as it serves, and at its end sends itself the signal once more, which would
    # make it look killed; what comes before it serves must not be lost either
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ready()
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listening.close()
    if not server.started:
        raise RunError("the server could not start; run with --debug to see why.")
