"""Requests that no server should answer with success, made from a seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from kdedge.errors import DataError
from kdedge.preprocess import Preprocess

__all__ = ["KINDS", "Malformed", "malformed"]

HOST = b"Host: 127.0.0.1\r\n"
TRIES = 20
OPEN = ("body shorter than declared", "bad chunks", "bad header")


@dataclass(frozen=True)
class Malformed:
    """A request.

    Attributes:
        kind: what is wrong with it.
        data: the bytes to send.
        open: whether they may be no whole request, so that the client must say that nothing follows.
    """

    kind: str
    data: bytes
    open: bool = False


def malformed(seed: int, count: int) -> Iterator[Malformed]:
    """``count`` requests, the kinds in turn; the same for the same seed."""
    rng = Random(seed)
    makers = list(KINDS.items())
    for number in range(count):
        kind, make = makers[number % len(makers)]
        yield Malformed(kind, make(rng), kind in OPEN)


def _post(
    body: bytes, kind: bytes | None, *, extra: bytes = b"", length: int | None = None, query: bytes = b""
) -> bytes:
    given = b"Content-Type: " + kind + b"\r\n" if kind is not None else b""
    size = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return b"POST /v1/classify" + query + b" HTTP/1.1\r\n" + HOST + given + size + extra + b"\r\n" + body


def _part(data: bytes, boundary: bytes, head: bytes = b'form-data; name="files"; filename="a.jpg"') -> bytes:
    return b"--" + boundary + b"\r\nContent-Disposition: " + head + b"\r\n\r\n" + data + b"\r\n"


def _form(parts: bytes, boundary: bytes = b"frontier", declared: bytes | None = None) -> bytes:
    kind = b"multipart/form-data; boundary=" + (boundary if declared is None else declared)
    return _post(parts, kind)


def _photo(rng: Random, suffix: str = "") -> bytes:
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(pixels, (rng.randrange(24, 160), rng.randrange(24, 160)), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(suffix or rng.choice([".jpg", ".png", ".webp"]), image)[1])


def _broken(rng: Random) -> bytes:
    """An image that was changed until it cannot be decoded any more."""
    whole = _photo(rng)
    for _ in range(TRIES):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(64)] = rng.randbytes(rng.randrange(64))
        if not _decodes(bytes(data)):
            return bytes(data)
    return whole[: len(whole) // 3]


def _decodes(data: bytes) -> bool:
    try:
        Preprocess(64).load(data)
    except DataError:
        return False
    return True


def _cut_form(rng: Random) -> bytes:
    whole = _part(_photo(rng), b"frontier") + b"--frontier--\r\n"
    return _form(whole[: rng.randrange(1, len(whole) - 16)])


def _wrong_boundary(rng: Random) -> bytes:
    declared = rng.choice([b"other", b"", b"x" * 300, b'"', rng.randbytes(6).hex().encode()])
    return _form(_part(_photo(rng), b"frontier") + b"--frontier--\r\n", declared=declared)


def _wrong_type(rng: Random) -> bytes:
    kinds = [
        b"text/plain",
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"multipart/mixed; boundary=a",
        b"a/b/c",
    ]
    return _post(_photo(rng), rng.choice([*kinds, rng.randbytes(4).hex().encode(), b"video/mp4", b";;;"]))


def _huge_length(rng: Random) -> bytes:
    return _post(_photo(rng)[:100], b"image/jpeg", length=rng.choice([10**9, 10**12, 10**19]))


def _short_body(rng: Random) -> bytes:
    return _post(_photo(rng), b"image/jpeg", length=rng.randrange(200_000, 900_000))


def _random_image(rng: Random) -> bytes:
    return _post(rng.randbytes(rng.randrange(1, 5000)), rng.choice([b"image/png", b"application/octet-stream"]))


def _random_http(rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(4, 300)) + b"\r\n\r\n"


def _mutated(rng: Random) -> bytes:
    return _post(_broken(rng), b"image/jpeg")


def _mutated_form(rng: Random) -> bytes:
    parts = b"".join(_part(_broken(rng), b"frontier") for _ in range(rng.randrange(1, 4)))
    return _form(parts + b"--frontier--\r\n")


def _bad_header(rng: Random) -> bytes:
    line = rng.choice(
        [
            b"Content-Length: -1",
            b"Content-Length: 1e3",
            b"Content-Length: 12\r\nContent-Length: 13",
            b"no colon here",
            b"X: " + b"a" * 70_000,
            b"X-\x00: 1",
            b": 1",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, chunked",
        ]
    )
    return b"POST /v1/classify HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n" + rng.randbytes(12)


def _bad_chunks(rng: Random) -> bytes:
    head = b"POST /v1/classify HTTP/1.1\r\n" + HOST + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = rng.randbytes(50)
    return head + rng.choice(
        [
            b"zz\r\n" + data,
            b"32\r\n" + data + b"no end of a chunk",
            b"32\r\n" + data + b"\r\n-1\r\n",
            b"FFFFFFFFFFFFFFFFFFFFFFFFF\r\n" + data,
            b"FFFFFFF\r\n" + data,
            b"32;" + b"x" * 20_000 + b"\r\n" + data,
            b"32\r\n" + data + b"\r\n0\r\nno trailer\r\n\r\n",
        ]
    )


def _empty(rng: Random) -> bytes:
    return rng.choice(
        [
            _post(b"", b"image/png"),
            _post(b"", None),
            _form(b"--frontier--\r\n"),
            _form(b""),
            _form(_part(b"", b"frontier")),
        ]
    )


def _bad_query(rng: Random) -> bytes:
    query = rng.choice(
        [b"?top=0", b"?top=x", b"?top=-3", b"?top=99999999999", b"?embedding=maybe", b"?tpo=3", b"?top=1&top=x"]
    )
    return _post(_photo(rng), b"image/jpeg", query=query)


def _bad_part(rng: Random) -> bytes:
    head = rng.choice(
        [
            b'form-data; name="other"; filename="a.jpg"',
            b"form-data",
            b'attachment; name="files"',
            b"",
            b'form-data; name="files"; filename="' + b"a" * 10_000 + b'"',
            b'form-data; name="files"\r\nContent-Transfer-Encoding: base64',
            b'form-data; name="fi\xff\xfeles"',
            b'form-data; name="files"\r\n\x01: 2',
        ]
    )
    return _form(_part(_photo(rng), b"frontier", head) + b"--frontier--\r\n")


def _bomb(rng: Random) -> bytes:
    data = bytearray(_photo(rng, ".png"))
    data[16:24] = rng.randrange(20_000, 2**31).to_bytes(4, "big") + rng.randrange(20_000, 2**31).to_bytes(4, "big")
    return _post(bytes(data), b"image/png")


def _many_files(rng: Random) -> bytes:
    return _form(_part(_photo(rng, ".jpg"), b"frontier") * 33 + b"--frontier--\r\n")


def _other_format(rng: Random) -> bytes:
    data = rng.choice([b"GIF89a", b"%PDF-1.7\n", b"PK\x03\x04", b"<svg>", b"\x00\x00\x00\x20ftypheic", b"P6 9 9 255\n"])
    return _post(data + rng.randbytes(200), b"image/jpeg", extra=b"")


def _compressed(rng: Random) -> bytes:
    return _post(_photo(rng), b"image/jpeg", extra=b"Content-Encoding: " + rng.choice([b"gzip", b"br", b"x"]) + b"\r\n")


def _wrong_address(rng: Random) -> bytes:
    line = rng.choice(
        [
            b"GET /v1/classify",
            b"PUT /v1/classify",
            b"POST /v2",
            b"GET /../../etc/passwd",
            b"GET /%2e%2e/%00",
            b"DELETE /",
        ]
    )
    return line + b" HTTP/1.1\r\n" + HOST + b"\r\n"


KINDS: dict[str, Callable[[Random], bytes]] = {
    "truncated form": _cut_form,
    "wrong boundary": _wrong_boundary,
    "wrong content type": _wrong_type,
    "huge declared length": _huge_length,
    "body shorter than declared": _short_body,
    "random bytes as an image": _random_image,
    "random bytes as a request": _random_http,
    "mutated image": _mutated,
    "mutated images in a form": _mutated_form,
    "bad header": _bad_header,
    "bad chunks": _bad_chunks,
    "empty": _empty,
    "bad query": _bad_query,
    "bad part": _bad_part,
    "too many pixels": _bomb,
    "too many files": _many_files,
    "another format": _other_format,
    "compressed body": _compressed,
    "wrong address": _wrong_address,
}
"""What is wrong, and what makes such a request."""
