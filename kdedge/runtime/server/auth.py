"""Whom the server listens to: API keys, names of the host, origins of pages."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from kdedge.errors import RunError

__all__ = ["Keys", "host_of", "read_keys"]

SHORTEST = 16
"""Characters; what is shorter can be guessed."""


class Keys:
    """API keys, of which only hashes are kept."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admits(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether ``Authorization: Bearer KEY`` or ``X-API-Key: KEY`` is among the headers.

        All keys are compared, in constant time: how long it takes tells nothing of them.
        """
        given = b""
        for name, value in headers:
            if name == b"x-api-key":
                given = value.strip()
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        digest = _digest(given)
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: Path | None, setting: str | None) -> tuple[str, ...]:
    """API keys from a file, one a line (``#`` begins a comment), else the one of an environment variable, else none.

    Raises:
        RunError: the file cannot be read or holds no key, or a key is too short or not ASCII.
    """
    if path is None:
        keys = tuple([setting.strip()] if setting else [])
        source = "$KDEDGE_API_KEY"
    else:
        source = str(path)
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise RunError(f"{path}: the file of API keys cannot be read ({reason}).") from error
        keys = tuple(line for line in lines if line and not line.startswith("#"))
        if not keys:
            raise RunError(f"{path}: no API key in this file; one a line was expected.")
    for key in keys:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise RunError(
                f"{source}: an API key is at least {SHORTEST} letters, digits or signs of ASCII without spaces; make one with "
                "'openssl rand -hex 24'."
            )
    return keys


def host_of(header: bytes) -> str:
    """The name in a Host header, without the port, in lower case: ``localhost``, ``[::1]``."""
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0]
