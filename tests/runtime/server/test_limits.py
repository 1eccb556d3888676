"""Bytes, pixels, seconds, connections, the queue: every limit holds, and says so."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.serve.client import classify_request, read_reply
from kdedge.errors import RunError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.errors import Problem
from kdedge.runtime.server.limits import Room
from kdedge.runtime.server.settings import Settings
from tests.runtime.server.running import Held, Running, picture, problem, running, wait_until

CHUNKED = (
    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def test_a_body_that_is_announced_too_large_is_not_waited_for(colors: Running) -> None:
    head = (
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000001\r\n\r\n"
    )
    assert problem(colors.send(head))["code"] == "body_too_large"


def test_an_endless_body_is_cut_off(colors: Running) -> None:
    """No length is announced; the answer comes while the client still sends, which then is not listened to for ever."""
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    with socket.create_connection(("127.0.0.1", colors.port), 20) as connection:
        connection.sendall(CHUNKED)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(chunk * 4000)  # 260 MB
    with socket.create_connection(("127.0.0.1", colors.port), 20) as connection:
        connection.sendall(CHUNKED + chunk * 20)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    wait_until(lambda: colors.metric("kdedge_body_bytes") == 0)


def test_the_connection_survives_a_body_that_was_refused(colors: Running) -> None:
    async def both() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", colors.port)
        body = bytes(1_200_000)
        writer.write(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body + classify_request(picture()))
        found = [(await read_reply(reader)).status for _ in range(2)]
        writer.close()
        return found

    assert asyncio.run(both()) == [413, 200]


def test_files_of_a_request(colors: Running) -> None:
    assert colors.post(*[picture()] * 32).status_code == 200
    answer = colors.post(*[picture()] * 33)
    assert (answer.status_code, problem(answer)["code"]) == (413, "too_many_files")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_pixels_are_read_from_the_header(model: Path, suffix: str) -> None:
    class Blind(Classifier):
        def load(self, source: object) -> object:  # type: ignore[override]
            raise AssertionError("decoded")

    with Blind(model, 1) as classifier, running(classifier, max_pixels=999) as server:
        answer = server.post(picture("red", suffix, (40, 25)))
        assert (answer.status_code, problem(answer)["code"]) == (413, "too_many_pixels")
        assert "40 x 25" in problem(answer)["detail"]


def test_slow_clients_do_not_stay(model: Path) -> None:
    with Classifier(model, 1) as classifier, running(classifier, header_timeout=0.3, timeout=0.4) as server:
        assert problem(server.send(b"POST /v1/classify HTTP/1.1\r\nHost: lo"))["code"] == "slow_header"
        assert server.send(b"").status == 0  # nothing was asked, nothing is answered
        head = (
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\n"
        )
        assert problem(server.send(head + b"abc"))["code"] == "slow_body"

        async def drip() -> list[int]:
            async def one() -> int:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                answer = asyncio.ensure_future(read_reply(reader))
                for letter in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 400:
                    if answer.done():
                        break
                    writer.write(bytes([letter]))
                    await asyncio.sleep(0.02)
                writer.close()
                return (await answer).status

            return await asyncio.gather(*(one() for _ in range(20)))

        with ThreadPoolExecutor(1) as pool:
            dripping = pool.submit(asyncio.run, drip())
            assert server.post(picture("red")).status_code == 200  # meanwhile
            assert set(dripping.result()) == {408}
        wait_until(lambda: not server.server.server_state.connections)


def test_more_connections_than_allowed(model: Path) -> None:
    with Classifier(model, 1) as classifier, running(classifier, connections=3) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), 20) for _ in range(3)]
        wait_until(lambda: len(server.server.server_state.connections) == 3)
        refused = server.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        for connection in idle:
            connection.close()
        wait_until(lambda: not server.server.server_state.connections)
        assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_full_queue_is_answered_at_once(held: Held) -> None:
    with running(held, queue=4, max_files=4, batch=1) as server, ThreadPoolExecutor(2) as pool:
        held.free.clear()
        waiting = [pool.submit(server.post, picture("red"), picture("blue")) for _ in range(2)]
        wait_until(lambda: server.metric("kdedge_queue_images") == 4)
        began = time.monotonic()
        full = server.post(picture())
        assert time.monotonic() - began < 10
        assert (full.status_code, problem(full)["code"]) == (503, "busy")
        assert 1 <= int(full.headers["retry-after"]) <= 60
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        held.free.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert server.post(picture()).status_code == 200
        assert server.metric('kdedge_requests_total{route="/v1/classify",status="503"}') == 1


def test_a_request_that_takes_too_long(held: Held) -> None:
    with running(held, timeout=0.3, batch=1) as server:
        held.free.clear()
        late = server.post(picture(), picture())
        assert (late.status_code, problem(late)["code"], late.headers["retry-after"]) == (503, "too_slow", "5")
        held.runs.clear()
        held.free.set()
        assert server.post(picture()).status_code == 200
        assert sum(held.runs) == 2  # the first was in the network already; the second was dropped


def test_nothing_is_computed_for_a_client_that_left(held: Held) -> None:
    with running(held, batch=1) as server:
        held.runs.clear()
        held.free.clear()
        leaving = []
        for _ in range(4):
            connection = socket.create_connection(("127.0.0.1", server.port), 20)
            connection.sendall(classify_request(picture()))
            leaving.append(connection)
            wait_until(lambda: server.metric("kdedge_queue_images") == len(leaving))
        for connection in leaving:
            connection.close()
        wait_until(lambda: server.metric("kdedge_disconnects_total") == 4)
        assert [one.status for one in server.seen if one.path == "/v1/classify"] == [499] * 4
        held.free.set()
        wait_until(lambda: server.metric("kdedge_queue_images") == 0)
        assert sum(held.runs) == 1  # the one that was in the network already
        assert server.metric('kdedge_images_total{outcome="dropped"}') == 3


def test_a_stuck_server_is_not_healthy(held: Held) -> None:
    with running(held, timeout=0.1) as server:
        held.free.clear()
        assert server.post(picture()).status_code == 503
        wait_until(lambda: httpx.get(f"{server.url}/healthz").status_code == 503)
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "stuck"}
        held.free.set()
        wait_until(lambda: httpx.get(f"{server.url}/healthz").status_code == 200)


def test_bodies_share_their_room() -> None:
    room = Room(100)
    room.take(60)
    with pytest.raises(Problem) as refused:
        room.take(41)
    assert (refused.value.status, room.used) == (503, 60)
    room.take(40)
    room.give_back(100)
    assert room.used == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"port": 70_000},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"queue": 3},
        {"cors": ("a.org",)},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(RunError):
        Settings(**wrong)  # type: ignore[arg-type]
