"""HTTP/1.1 with limits that uvicorn leaves to a proxy: slow headers, endless bodies, too many connections.

h11 parses: strict, in Python, and always there with uvicorn.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kdedge.runtime.server.errors import PROBLEM, problem_body, title

__all__ = ["Guard", "GuardedProtocol"]

LINGER = 1.0
"""Seconds in which a refused client can read why, before its connection is cut: a reset would take the answer from it."""


@dataclass(frozen=True)
class Guard:
    """Limits of a connection.

    Attributes:
        seconds: for the header of a request to arrive, and for the rest of a body that nobody reads.
        connections: open at any time.
        drained: bytes of a body that nobody reads, at most.
    """

    seconds: float
    connections: int
    drained: int


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol, with a clock that runs whenever it waits for a client and no request is being served.

    uvicorn itself gives an idle connection some seconds, but one that never sends a whole header any time.
    """

    def __init__(self, *given: Any, guard: Guard, **named: Any) -> None:
        super().__init__(*given, **named)
        self.guard = guard
        self._clock: asyncio.TimerHandle | None = None
        self._refused = False
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many; start the clock."""
        super().connection_made(transport)
        if len(self.connections) > self.guard.connections:
            self._refuse(503, "busy", "Too many connections are open; try again.", "Retry-After: 1\r\n")
        else:
            self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look at the clock."""
        if self._refused or not self._busy:
            self._unread += len(data)
            if self._unread > self.guard.drained:
                self.transport.abort()
                return
        if self._refused:
            return
        super().data_received(data)
        self._look()

    def _look(self) -> None:
        """Run the clock if it is the client that is waited for."""
        if self._refused:
            return
        if self._busy:
            self._unread = 0
            self._stop()
            return
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:  # the end of an unread body
            self._unread = 0
            self._stop()
        self._wind()

    def eof_received(self) -> None:
        """Answer a request that ends too early; whoever sent a whole one and hangs up does not want its answer."""
        if not self._refused and (self._unread or self._busy) and self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._refuse(400, "cut_off", "The connection ended before the request did.", ended=True)

    def on_response_complete(self) -> None:
        """Give the rest of an unread body some time."""
        super().on_response_complete()
        if not self._busy and self.conn.their_state is h11.SEND_BODY:
            self._wind()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        del msg
        self._refuse(400, "bad_request", "This is not a valid HTTP/1.1 request.")

    @property
    def _busy(self) -> bool:
        """Whether the application has a request in hand."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wind(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(self.guard.seconds, self._expired)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _expired(self) -> None:
        self._clock = None
        if self._busy or self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self._unread:
            self._refuse(408, "slow_header", f"The header did not arrive within {self.guard.seconds:g} seconds.")
        else:
            self.transport.abort()

    def _refuse(self, status: int, code: str, detail: str, header: str = "", *, ended: bool = False) -> None:
        """Answer in place of the application, hear no more, and close a little later."""
        self._refused = True
        self._unset_keepalive_if_required()
        self._stop()
        answered = self._busy and self.cycle.response_started
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answered or self.transport.is_closing():
            self.transport.close()
            return
        body = problem_body(status, code, detail)
        head = (
            f"HTTP/1.1 {status} {title(status)}\r\nContent-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n{header}\r\n"
        )
        self.transport.write(head.encode() + body)
        if ended:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._clock = self.loop.call_later(LINGER, self.transport.abort)
