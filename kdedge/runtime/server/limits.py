"""Reading the body of a request, no more of it than allowed and no longer than allowed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from kdedge.runtime.server.errors import Problem

__all__ = ["Disconnected", "Room", "body_chunks"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Disconnected(Exception):
    """The client is gone; nobody waits for an answer."""


class Room:
    """Memory that the bodies of all requests share. Used on the event loop alone.

    Counted is what has arrived, not what was announced: a slow client takes up as little as it sent.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0

    def take(self, amount: int) -> None:
        """Count ``amount`` bytes more; Problem 503 if there is no room."""
        if self.used + amount > self.size:
            raise Problem(503, "busy", "The server holds as many bodies as it can; try again.", {"Retry-After": "1"})
        self.used += amount

    def give_back(self, amount: int) -> None:
        """Count ``amount`` bytes less."""
        self.used -= amount


async def body_chunks(receive: Receive, declared: str | None, most: int, seconds: float) -> AsyncGenerator[bytes, None]:
    """The pieces of a body as they arrive.

    Args:
        receive: ASGI's.
        declared: the Content-Length, which is believed only where it is too large.
        most: bytes.
        seconds: for the whole body.

    Raises:
        Problem: 413 as soon as the body is announced or found to be larger, 408 if it takes longer.
        Disconnected: the client left.
    """
    too_large = Problem(413, "body_too_large", f"The body is larger than the {most:,} bytes that are allowed.")
    if declared is not None and declared.isdecimal() and int(declared[:20]) > most:
        raise too_large
    ends = asyncio.get_running_loop().time() + seconds
    size = 0
    while True:
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError:
            raise Problem(408, "slow_body", f"The body did not arrive within {seconds:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise too_large
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return
