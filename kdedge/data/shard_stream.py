"""The images of one WebDataset shard, read front to back, never ending early in silence.

webdataset opens URLs here. Its tar iterator is not used: it takes a damaged or cut-off header for the end of the archive
(so does :mod:`tarfile`, on which it stands), and a broken shard would look like a short one.
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tarfile import EOFHeaderError  # type: ignore[attr-defined]
from typing import Any, Self

from kdedge.data.folder import SUFFIXES
from kdedge.data.shard_list import is_url
from kdedge.errors import DataError, ModelError

__all__ = ["ShardImage", "read_shard"]

_MEMBER = re.compile(r"((?:.*/|)[^./]+)[.][^/]*", re.DOTALL)
_CURL = {
    6: "host not found",
    7: "no connection",
    18: "the transfer was cut off",
    22: "an HTTP error such as 404",
    28: "time-out",
}
CHUNK = 1 << 16


@dataclass(frozen=True)
class ShardImage:
    """An image of a shard.

    Attributes:
        key: the member's name, folders included, up to the first dot after them: what a sample's files share.
        data: the encoded image.
        position: 0 for the first image of the shard.
    """

    key: str
    data: bytes
    position: int


def read_shard(shard: str, handler: Callable[[DataError], bool] | None = None) -> Iterator[ShardImage]:
    """The first image of each sample, in the order of the tar file; the other members are passed over.

    A sample is a run of members with the same key. Members without an ending or whose name starts with a dot, and
    links, belong to none. The tar file must not be compressed (``pipe:zcat FILE`` is a way) and must have its
    end-of-archive mark, which every writer adds: without it, a file cut off between two members looks whole.

    Args:
        shard: a local path or a URL, as :func:`kdedge.data.shard_list.expand_shards` returns them.
        handler: is given the error of a broken shard; if it returns True, the shard ends there and nothing is raised.

    Raises:
        DataError: the shard is missing, is no tar file, is cut off or damaged, two were joined into one (readers stop
            at the first one's end), or the command or transfer behind it failed. The images read before have been
            handed out by then; the message counts them.
        ModelError: a URL was given and webdataset is not installed.
    """
    count = 0
    try:
        for key, data in _samples(shard):
            yield ShardImage(key, data, count)
            count += 1
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        broken = DataError(
            f"{shard}: the shard cannot be read to its end; {reason} ({count} images were read before). "
            "Fetch or write it again."
        )
        if handler is None or not handler(broken):
            raise broken from error


def _samples(shard: str) -> Iterator[tuple[str, bytes]]:
    with _opened(shard) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
        forgetful: Any = archive  # neither attribute is in its stubs
        key, taken = "", False
        while (member := archive.next()) is not None:
            forgetful.members = []  # else it remembers every member
            found = _MEMBER.fullmatch(member.name)
            if found is None or not member.isreg():
                continue
            if found[1] != key:
                key, taken = found[1], False
            if taken or PurePosixPath(member.name).suffix.lower() not in SUFFIXES:
                continue
            if (file := archive.extractfile(member)) is not None:
                taken = True
                yield key, file.read()
        while chunk := forgetful.fileobj.read(CHUNK):  # a command's status is known only when all its output is read
            if any(chunk):
                raise tarfile.ReadError("something follows the end of the archive (two joined into one?)")


class _Member(tarfile.TarInfo):
    """Makes an error of every header that is not one, except the empty block that ends an archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            at = archive.offset
            raise tarfile.ReadError(f"{_what(error, at)} at byte {at:,}") from error


def _what(error: tarfile.HeaderError, at: int) -> str:
    if "empty" in str(error):
        return "the end-of-archive mark is missing" if at else "the file is empty"
    if "truncated" in str(error):
        return "a header is cut off"
    return "a header is damaged" if at else "this is no (uncompressed) tar file: no header"


class _Watched:
    """A stream that at its end waits for the command behind it and raises OSError if that failed."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.ended = False

    def read(self, size: int) -> bytes:
        data: bytes = b"" if self.ended else self.stream.read(size)
        if not data and not self.ended:
            self.ended = True
            self.stream.close()
        return data


@contextmanager
def _opened(shard: str) -> Iterator[Any]:
    """The bytes of a shard; a command that is no longer listened to is stopped."""
    if not is_url(shard):
        with Path(shard).open("rb") as file:
            yield file
        return
    try:
        from webdataset.gopen import gopen  # it imports torch
    except ImportError as error:
        raise ModelError(f"{shard}: opening it needs {error.name}: pip install 'kdedge[train]'.") from error
    try:
        stream = gopen(shard)
    except FileNotFoundError as error:
        raise ModelError(f"{shard}: opening it needs the program {error.filename}, which is not installed.") from error
    except ValueError as error:
        raise OSError(0, "such URLs are not known; try 'pipe:COMMAND', whose output is the tar file") from error
    try:
        yield _Watched(stream)
    except OSError as error:
        if status := getattr(stream, "status", None):
            meaning = f" ({_CURL[status]})" if shard.startswith("http") and status in _CURL else ""
            raise OSError(status, f"its command ended with exit status {status}{meaning}") from error
        raise
    finally:
        process = getattr(stream, "proc", None)
        if process is not None and process.poll() is None:
            process.kill()
        with suppress(OSError):
            stream.close()
