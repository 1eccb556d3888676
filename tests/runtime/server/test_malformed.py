"""Whatever is sent, the answer is a problem of the client's, and the server lives."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from benchmarks.serve.malformed import KINDS, malformed
from tests.runtime.server.running import Running, picture, problem


def test_malformed_uploads(colors: Running, capfd: pytest.CaptureFixture[str]) -> None:
    sent = list(malformed(7, 20 * len(KINDS)))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda one: colors.send(one.data, eof=one.open), sent))
    for one, reply in zip(sent, replies, strict=True):
        assert 400 <= reply.status < 500, (one.kind, reply.status, one.data[:200])
        told = json.loads(reply.body)
        assert told["status"] == reply.status
        for word in ("Traceback", "/work", "site-packages", ".py", 'File "'):
            assert word not in told["detail"]
    assert colors.post(picture("red")).json()["results"][0]["label"] == "red"
    assert httpx.get(f"{colors.url}/healthz").json() == {"status": "ok"}
    assert "Traceback" not in capfd.readouterr().err
    assert colors.metric("kdedge_queue_images") == 0
    assert colors.metric("kdedge_body_bytes") == 0


def test_they_are_the_same_for_the_same_seed() -> None:
    assert list(malformed(3, 40)) == list(malformed(3, 40)) != list(malformed(4, 40))


@pytest.mark.parametrize(
    ("query", "word"), [("?top=0", "top"), ("?top=x", "top"), ("?embedding=maybe", "embedding"), ("?tpo=3", "tpo")]
)
def test_a_wrong_query_is_named(colors: Running, query: str, word: str) -> None:
    answer = colors.post(picture(), query=query)
    assert answer.status_code == 422
    assert word in problem(answer)["detail"]


def test_types_that_are_not_supported(colors: Running) -> None:
    answer = httpx.post(f"{colors.url}/v1/classify", data={"a": "b"})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.headers["accept"]
    assert "application/x-www-form-urlencoded" in problem(answer)["detail"]


def test_addresses_and_methods(colors: Running) -> None:
    assert problem(httpx.get(f"{colors.url}/nothing"))["status"] == 404
    wrong = httpx.get(f"{colors.url}/v1/classify")
    assert problem(wrong)["status"] == 405
    assert wrong.headers["allow"] == "POST"


def test_a_request_that_ends_too_early_is_told_so(colors: Running) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\n"
    for data in (head + b"abc", head[:40]):
        assert problem(colors.send(data, eof=True))["code"] == "cut_off"


def test_pipelined_requests_are_answered_in_order(colors: Running) -> None:
    import asyncio

    from benchmarks.serve.client import classify_request, read_reply

    async def both() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", colors.port)
        writer.write(classify_request(picture("red")) + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = [(await read_reply(reader)).status for _ in range(2)]
        writer.close()
        return found

    assert asyncio.run(both()) == [200, 404]
