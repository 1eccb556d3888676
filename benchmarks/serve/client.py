"""Clients of ``kdedge serve``, in a process of their own: asyncio and bare sockets, so that they take little of the machine.

Run as ``python -m benchmarks.serve.client HOST PORT CLIENTS SECONDS FOLDER``; the last line of the output is JSON.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["Reply", "ask", "classify_request", "load"]

PATIENCE = 60.0
"""Seconds for an answer."""


class Reply:
    """What a server sent: status (0 if it hung up before), headers in lower case, body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """The next answer on a connection; status 0 if it ended before."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError, IndexError):
        return Reply(0, {}, b"")


async def ask(host: str, port: int, data: bytes, *, seconds: float = PATIENCE, eof: bool = False) -> Reply:
    """Send bytes over a connection of their own and read one answer.

    Args:
        eof: whether to say that nothing follows.

    Raises:
        TimeoutError: no answer within ``seconds``.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            with contextlib.suppress(OSError):  # refused before all was sent; the answer may be there all the same
                writer.write(data)
                await writer.drain()
                if eof:
                    writer.write_eof()
            return await read_reply(reader)
        finally:
            writer.close()


def classify_request(image: bytes, host: str = "127.0.0.1") -> bytes:
    """A request with one image in a form."""
    boundary = b"----kdedge-benchmark"
    body = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="files"; filename="image.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n--" + boundary + b"--\r\n"
    )
    head = f"POST /v1/classify HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"Content-Type: multipart/form-data; boundary=" + boundary + b"\r\n\r\n" + body


async def load(host: str, port: int, clients: int, seconds: float, requests: Sequence[bytes]) -> dict[str, Any]:
    """Keep ``clients`` connections busy: each sends its next request as soon as it has its answer.

    Returns:
        Counts by status (0: the connection broke), latency of the successes in milliseconds, seconds that passed.
    """
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    ends = time.perf_counter() + seconds

    async def client(number: int) -> None:
        choice = Random(number)  # in step, all would send their largest image at once
        reader = writer = None
        while time.perf_counter() < ends:
            began = time.perf_counter()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection(host, port)
                writer.write(choice.choice(requests))
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
                    reply = await read_reply(reader)
            except (OSError, TimeoutError):
                reply = Reply(0, {}, b"")
            statuses[reply.status] += 1
            if reply.status == 200:
                latencies.append(1000 * (time.perf_counter() - began))
            elif reply.status == 503:
                await asyncio.sleep(float(reply.headers.get("retry-after", "1")))
            elif reply.status == 0:
                if writer:
                    writer.close()
                reader = writer = None
                await asyncio.sleep(0.1)
        if writer:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return {
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "seconds": time.perf_counter() - began,
        "latencies_ms": [round(value, 2) for value in latencies],
    }


if __name__ == "__main__":
    where, at, many, long, folder = sys.argv[1:]
    images = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    found = asyncio.run(load(where, int(at), int(many), float(long), [classify_request(image) for image in images]))
    print(json.dumps(found))
