"""Keys, names of the host, origins of pages."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kdedge.errors import RunError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.auth import host_of, read_keys
from kdedge.runtime.server.settings import Settings
from tests.runtime.server.running import Running, picture, problem, running

KEY, OTHER = "0123456789abcdef-first", "0123456789abcdef-second"


@pytest.fixture(scope="module")
def locked(model: Path) -> Iterator[Running]:
    """A server with two keys that pages of two origins may call."""
    with (
        Classifier(model, 1) as classifier,
        running(classifier, keys=(KEY, OTHER), cors=("https://example.org", "http://localhost:3000")) as server,
    ):
        yield server


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {OTHER}"}, {"X-API-Key": KEY}]
)
def test_a_key_opens(locked: Running, headers: dict[str, str]) -> None:
    assert locked.post(picture(), headers=headers).status_code == 200
    assert httpx.get(f"{locked.url}/v1/model", headers=headers).json()["needs_key"] is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {KEY}"},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": "ä".encode()},
    ],
)
def test_no_key_does_not(locked: Running, headers: dict[str, str]) -> None:
    refused = locked.post(picture(), headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert problem(refused)["code"] == "no_key"
    for path in ("/v1/model", "/v1/model.onnx", "/metrics"):
        assert httpx.get(locked.url + path, headers=headers).status_code == 401
    for path in ("/healthz", "/docs", "/openapi.json"):
        assert httpx.get(locked.url + path, headers=headers).status_code == 200


def test_a_body_without_a_key_is_not_read(locked: Running) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\n"
    assert problem(locked.send(head))["code"] == "no_key"


def test_pages_of_other_origins(locked: Running) -> None:
    key = {"X-API-Key": KEY}
    for origin in ("https://example.org", "http://localhost:3000"):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key",
        }
        preflight = httpx.options(f"{locked.url}/v1/classify", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        allowed = locked.post(picture(), headers={**key, "Origin": origin})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
        locked_out = locked.post(picture(), headers={"Origin": origin})
        assert (locked_out.status_code, locked_out.headers["access-control-allow-origin"]) == (401, origin)
    for origin in ("https://evil.example", "null", "https://example.org.evil.example"):
        refused = locked.post(picture(), headers={**key, "Origin": origin})
        assert (refused.status_code, problem(refused)["code"]) == (403, "wrong_origin")
    assert locked.post(picture(), headers={**key, "Origin": locked.url}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:8000"])
def test_names_of_this_machine(colors: Running, host: str) -> None:
    assert httpx.get(f"{colors.url}/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
def test_other_names(colors: Running, host: str) -> None:
    for path in ("/healthz", "/v1/model", "/"):
        refused = httpx.get(colors.url + path, headers={"Host": host})
        assert (refused.status_code, problem(refused)["code"]) == (421, "wrong_host")


def test_names_by_address() -> None:
    assert Settings().hosts() == {"localhost", "127.0.0.1", "[::1]"}
    assert Settings(host="::1", allow_hosts=("Box.local",)).hosts() == {"localhost", "127.0.0.1", "[::1]", "box.local"}
    assert Settings(host="0.0.0.0").hosts() is None
    assert Settings(host="0.0.0.0", allow_hosts=("box",)).hosts() == {"0.0.0.0", "box"}
    assert [host_of(header) for header in (b"a:80", b"[::1]:80", b"A", b"", b"[")] == ["a", "[::1]", "a", "", ""]


def test_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the camera\n{KEY}\n\n  {OTHER}  \n", encoding="utf-8")
    assert read_keys(path, "from-the-environment") == (KEY, OTHER)
    assert read_keys(None, f"{KEY}\n") == (KEY,)
    assert read_keys(None, None) == read_keys(None, "") == ()
    with pytest.raises(RunError, match="KDEDGE_API_KEY"):
        read_keys(None, "short")
    for wrong in ("", "# nothing\n", "a key with spaces in it\n", "ä" * 20):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(RunError, match="keys"):
            read_keys(path, KEY)
    with pytest.raises(RunError, match="cannot be read"):
        read_keys(tmp_path / "none", None)
