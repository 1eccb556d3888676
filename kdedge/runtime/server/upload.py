"""From the body of a request to images: ``multipart/form-data``, or one image as it is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kdedge.runtime.server.errors import Problem

__all__ = ["FIELDS", "Upload", "read_uploads"]

FIELDS = ("file", "files", "image", "images")
"""Names of a form's fields that hold an image."""

LONGEST_BOUNDARY = 70
"""RFC 2046, section 5.1.1."""

LONGEST_HEADER, LONGEST_NAME = 8192, 200

PLAIN = frozenset({b"", b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True)
class Upload:
    """An image as it was sent.

    Attributes:
        source: name of the file; ``body``, or ``image 2`` for one that has none.
    """

    source: str
    data: bytes


async def read_uploads(content_type: str, chunks: AsyncIterator[bytes], max_files: int) -> list[Upload]:
    """The images of a body, at least one.

    Args:
        content_type: the header; empty counts as ``application/octet-stream``.
        chunks: of the body.
        max_files: more are refused as soon as they begin.

    Raises:
        Problem: 400 for a body that is not what its type says, 413 for too many files, 415 for another type.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        return await _form(options.get(b"boundary", b""), chunks, max_files)
    if not content_type or kind == b"application/octet-stream" or kind.startswith(b"image/"):
        data = b"".join([chunk async for chunk in chunks])
        if not data:
            raise Problem(400, "empty", "The body is empty; an image was expected.")
        return [Upload("body", data)]
    raise Problem(
        415,
        "unsupported_type",
        f"Content-Type {_printable(kind)!r} is not supported; send multipart/form-data, or one image as image/jpeg, image/png "
        "or application/octet-stream.",
        {"Accept": "multipart/form-data, image/*, application/octet-stream"},
    )


async def _form(boundary: bytes, chunks: AsyncIterator[bytes], max_files: int) -> list[Upload]:
    if not 0 < len(boundary) <= LONGEST_BOUNDARY:
        raise Problem(
            400, "bad_multipart", f"multipart/form-data needs a boundary of 1 to {LONGEST_BOUNDARY} characters."
        )
    form = _Form(max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.part_begins,
                "on_part_data": form.part_data,
                "on_part_end": form.part_ends,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_ends,
                "on_headers_finished": form.headers_end,
                "on_end": form.end,
            },
        )
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError:  # the base of all of them
        raise Problem(
            400, "bad_multipart", "The body is not multipart/form-data with the boundary of its type."
        ) from None
    if not form.ended:
        raise Problem(400, "bad_multipart", "The multipart body ends before its last boundary.")
    if not form.uploads:
        raise Problem(400, "no_file", f"The form has no file; send one in a field named {', '.join(FIELDS)}.")
    return form.uploads


class _Form:
    """Takes the parser's calls; what it holds is bounded by the body and :data:`LONGEST_HEADER`."""

    def __init__(self, max_files: int) -> None:
        self.max_files = max_files
        self.uploads: list[Upload] = []
        self.ended = False
        self._begin()

    def _begin(self) -> None:
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._size = 0

    def part_begins(self) -> None:
        if len(self.uploads) == self.max_files:
            raise Problem(413, "too_many_files", f"The form has more than the {self.max_files} files that are allowed.")
        self._begin()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._value += data[start:end]

    def _grow(self, amount: int) -> None:
        self._size += amount
        if self._size > LONGEST_HEADER:
            raise Problem(400, "bad_multipart", f"The header of a part is longer than {LONGEST_HEADER} bytes.")

    def header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_end(self) -> None:
        given, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"")
        if given != b"form-data" or field.decode("latin-1") not in FIELDS:
            raise Problem(
                400,
                "unknown_field",
                f"A part named {_printable(field)!r} was sent; the fields with images are named {', '.join(FIELDS)}.",
            )
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in PLAIN:
            raise Problem(400, "bad_multipart", "A Content-Transfer-Encoding other than binary is not supported.")
        name = options.get(b"filename", b"").replace(b"\\", b"/").rpartition(b"/")[2]
        self._source = _printable(name) or f"image {len(self.uploads) + 1}"

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def part_ends(self) -> None:
        self.uploads.append(Upload(self._source, b"".join(self._pieces)))
        self._pieces = []

    def end(self) -> None:
        self.ended = True


def _printable(name: bytes) -> str:
    text = name.decode("utf-8", "replace")[:LONGEST_NAME]
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
