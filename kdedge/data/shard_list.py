"""Which WebDataset shards a text names, which of them a process reads, and what each is called.

A shard is a local tar file or a URL. URLs are what webdataset opens: ``http://``, ``https://``, ``gs://``, ``hf://``, ...
or ``pipe:COMMAND``, whose output is the tar file (``pipe:aws s3 cp s3://bucket/{000..999}.tar -``).
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from kdedge.data.folder import SUFFIXES
from kdedge.errors import DataError, ModelError

__all__ = ["expand_shards", "is_sharded", "is_url", "shard_fingerprint", "shard_labels", "split_shards"]

_URL = re.compile(r"pipe:|[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:\ is a drive
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
_TAR_NAME = re.compile(r"[^\s'\"=]+\.tar(?![\w.])")


def is_url(shard: str) -> bool:
    """Whether it is a URL or a ``pipe:`` command, not a local path."""
    return _URL.match(shard) is not None and not shard.startswith("file://")


def is_sharded(text: str) -> bool:
    """Whether it names shards, not a folder of images: the existing images are never read.

    Shards are what ends with ``.tar``, has braces, is a URL or ``pipe:``, or is several of them separated by ``::``.
    Of a folder the first one below it, in the order of names and itself included, decides that holds an image or a
    tar file; where both lie, it is a folder of images.
    """
    root = _local(text)
    if not is_url(text) and root.is_dir():
        return _holds_shards(root)
    return "::" in text or is_url(text) or text.lower().endswith(".tar") or _BRACES.search(text) is not None


def _holds_shards(root: Path) -> bool:
    for _, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixes = {Path(name).suffix.lower() for name in names if not name.startswith(".")}
        if suffixes & (SUFFIXES | {".tar"}):
            return not suffixes & SUFFIXES
    return False


def expand_shards(text: str) -> list[str]:
    """The shards that ``text`` names, in the order written, those of a folder or a glob sorted.

    Args:
        text: one or several, separated by ``::``, of: a tar file; a folder (every ``.tar`` file below it, hidden ones
            left out); a glob (``**`` for any depth); a URL. Braces (``{00..99}``, ``{a,b}``) are expanded in all of
            them; nobody looks whether a URL exists.

    Raises:
        DataError: nothing matches, a file that was named is missing, or a shard is named twice.
    """
    found: list[str] = []
    for part in text.split("::"):
        if not part.strip():
            raise DataError(
                f"{text!r} names an empty shard; a tar file, a folder of them, a glob or a URL was expected."
            )
        named = [part] if not is_url(part) and _local(part).exists() else _expand_braces(part)
        missing = [one for one in named if not is_url(one) and not _local(one).exists() and not _is_glob(one)]
        if missing:
            raise DataError(
                f"{missing[0]}: no such shard ({len(missing)} of {len(named)} named by {part!r} are missing); expected a "
                "tar file, a folder of them, a glob, DIR/{00..99}.tar, or a URL."
            )
        found += [shard for one in named for shard in _matching(one)]
    if twice := _repeated(found):
        raise DataError(f"{twice}: the shard is named twice; name each once.")
    return found


def _expand_braces(text: str) -> list[str]:
    if "{" not in text:
        return [text]
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise ModelError(f"{text}: expanding braces needs {error.name}: pip install 'kdedge[train]'.") from error
    try:
        return list(braceexpand(text, escape=False))
    except ValueError as error:
        raise DataError(f"{text}: the braces cannot be expanded; {{000..999}} or {{a,b}} was expected.") from error


def _matching(one: str) -> list[str]:
    if is_url(one):
        return [one]
    path = _local(one)
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        shards = [below for below in path.rglob("*.tar") if not _is_hidden(below.relative_to(path))]
    else:
        pattern = str(path.relative_to(path.anchor))
        shards = list(Path(path.anchor).glob(pattern))
    found = [str(shard) for shard in sorted(shards) if shard.is_file()]
    if not found:
        raise DataError(f"{one}: no shards found; tar files were expected, as img2dataset or webdataset write them.")
    return found


def _local(text: str) -> Path:
    return Path(text.removeprefix("file://"))


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _repeated(shards: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for shard in shards:
        if shard in seen:
            return shard
        seen.add(shard)
    return None


def split_shards(shards: Sequence[str], rank: int, world: int) -> list[str]:
    """Those of one process: every ``world``-th, from ``rank`` on.

    The processes' parts are disjoint, are all shards together, and differ in length by one at most.

    Raises:
        DataError: there are fewer shards than processes: one without shards would have nothing to train on.
    """
    if not 0 <= rank < world:
        raise ValueError(f"expected a rank of 0-{world - 1}, got {rank}.")
    if len(shards) < world:
        raise DataError(
            f"{len(shards)} shard(s) cannot be shared by {world} processes, as one without a shard has nothing to train "
            f"on; start at most {len(shards)} processes or write smaller shards."
        )
    return list(shards[rank::world])


def shard_labels(shards: Sequence[str]) -> list[str]:
    """A name for each shard of a transfer set that stays when the set is moved: the base name, ``00012.tar``.

    Where two have the same base name (two sets side by side, ``a/00012.tar`` and ``b/00012.tar``), all names get as
    many of the folders above as tell them apart. Give it all shards, before they are split between processes.
    """
    parts = [list(_parts(shard)) for shard in shards]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(reversed(part[:depth])) for part in parts]
        if len(set(labels)) == len(shards):
            return labels
    return list(shards)


def _parts(shard: str) -> Iterator[str]:
    """The base name, then the folders, innermost first."""
    if not is_url(shard):
        path = Path(shard)
    elif not shard.startswith("pipe:"):
        path = Path(urlsplit(shard).path)  # without what a signed URL adds, which changes from day to day
    else:
        names = _TAR_NAME.findall(shard)
        path = Path(names[-1] if names else shard.replace("/", "|"))
    yield from (part for part in reversed(path.parts) if part != path.anchor)


def shard_fingerprint(shard: str) -> str:
    """What tells that a shard was replaced, without reading it: base name, size in bytes and time of change (ns).

    Of a URL it is the URL itself: what lies behind it is taken to stay the same.

    Raises:
        DataError: the local file is missing.
    """
    if is_url(shard):
        return shard
    try:
        found = Path(shard).stat()
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror}).") from error
    return f"{Path(shard).name} {found.st_size} {found.st_mtime_ns}"
