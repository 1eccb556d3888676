"""What a server answers to a request that it cannot or will not serve: RFC 9457 problem details."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

__all__ = ["PROBLEM", "Problem", "problem_body", "title"]

PROBLEM = "application/problem+json"

LATER = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Names of RFC 9110, which Python has from 3.13 on."""


class Problem(Exception):
    """An answer other than success.

    Args:
        status: 400 and above.
        code: a word for programs, which stays the same when the sentence changes.
        detail: a sentence for people, of what was given and what was expected; nothing of this machine.
        headers: to send along.
        errors: of each image, ``{"source": ..., "error": ...}``, where there are several.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = tuple(errors)

    def body(self) -> bytes:
        """As JSON."""
        return problem_body(self.status, self.code, self.detail, self.errors)


def title(status: int) -> str:
    """The name of a status."""
    return LATER.get(status) or HTTPStatus(status).phrase


def problem_body(status: int, code: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> bytes:
    """Problem details as JSON; ``about:blank`` says that the status tells the kind of problem."""
    found: dict[str, object] = {
        "type": "about:blank",
        "title": title(status),
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        found["errors"] = [dict(error) for error in errors]
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
