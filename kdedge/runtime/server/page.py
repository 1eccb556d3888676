"""The files of the web page, with what a browser must be told about them."""

import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from kdedge.runtime.server.errors import Problem
from kdedge.runtime.web.assets import CSP, page_files

__all__ = ["PAGE_POLICY", "SECURITY", "File", "Page", "answer_file"]

PAGE_POLICY = f"{CSP}; frame-ancestors 'none'"
"""The page's own policy, and that no other site may show it in a frame, which only a header can say."""

SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),  # these three together let WebAssembly use threads
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)
"""Headers of every answer."""


@dataclass(frozen=True)
class File:
    """A file of the page."""

    data: bytes
    kind: str
    tag: str


class Page:
    """The page's files, read when the first of them is asked for: a server without visitors does not hold them."""

    def __init__(self) -> None:
        self._files: dict[str, File] | None = None

    def find(self, path: str) -> File:
        """The file at ``path``, relative to ``/``; Problem 404 if there is none."""
        if self._files is None:
            self._files = {
                name: File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
                for name, (data, kind) in page_files().items()
            }
        found = self._files.get(path or "index.html")
        if found is None:
            raise Problem(404, "not_found", "There is nothing at this address.")
        return found


def answer_file(request: Request, file: File) -> Response:
    """The file, or 304 if the browser has it."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.kind, headers=headers)
