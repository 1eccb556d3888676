"""What a command line means by its images: files, folders, patterns, stdin, videos and cameras.

Nothing is listed before it is wanted, so a folder of a million images takes no more memory than one of ten.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from kdedge.data.folder import SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "Film", "Missing", "Still", "common_folder", "expand"]

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mjpeg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    }
)

STDIN = "-"
CAMERA = "camera:"
_STREAM = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")
_HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Still:
    """An image: the path of a file, or the bytes that came through stdin."""

    name: str
    data: bytes | None = None

    @property
    def source(self) -> str | bytes:
        """What to decode."""
        return self.name if self.data is None else self.data


@dataclass(frozen=True)
class Film:
    """A video, stream or camera.

    Attributes:
        name: as it was given.
        opened: what OpenCV opens: a path, an address or the number of a camera.
        live: whether frames come whether one is ready for them or not; None if only the stream itself can tell.
    """

    name: str
    opened: str | int
    live: bool | None = False


@dataclass(frozen=True)
class Missing:
    """An argument, or a folder below one, that leads to no image, and why in one sentence."""

    name: str
    why: str


Source = Still | Film | Missing


@dataclass
class _Seen:
    """What was given already, in the memory that the command line itself takes: files by name, folders as a whole."""

    files: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    stdin: bool = False


def expand(
    arguments: Sequence[str], stdin: BufferedReader | None = None, leave_out: str | Path | None = None
) -> Iterator[Source]:
    """What the arguments mean, in their order, each file once.

    - a file: a video if its name ends like one, else an image;
    - a folder: the images in it at any depth, by name; hidden files, links to folders and videos are left out;
    - a pattern with ``*``, ``?`` or ``[``, ``**`` for any depth: the images and videos that match, if no file has that name;
    - ``-``: stdin; one image if it begins like one, else the names of files and folders, one a line or (as from
      ``find -print0``) with a null byte after each, read as they come and not compared with others;
    - ``camera:0``, ``camera:/dev/video2`` or ``/dev/video2``: a camera;
    - ``rtsp://...``, ``http://...`` and the like: a stream.

    Args:
        stdin: a binary stream, for ``-``.
        leave_out: a folder whose images are none: the one that is written to.
    """
    outside = os.path.realpath(leave_out) if leave_out else None
    seen = _Seen()
    for text in arguments:
        if text == STDIN:
            if stdin is None or seen.stdin:
                yield Missing(text, "-: stdin was read already; give it once.")
            else:
                seen.stdin = True
                yield from _from_stdin(stdin, outside)
        else:
            yield from _one(text, seen, outside)


def _one(text: str, seen: _Seen, outside: str | None, patterns: bool = True) -> Iterator[Source]:
    try:
        if text.startswith((CAMERA, "/dev/video")):
            yield _camera(text)
        elif _STREAM.match(text):
            yield Film(text, text, None)
        elif os.path.isdir(text):  # noqa: PTH112  names, not paths: a million of them
            yield from _folder(text, seen, outside)
        elif os.path.lexists(text) or not (patterns and _PATTERN.search(text)):
            yield from _new([text], seen)
        else:
            yield from _matching(text, seen)
    except ValueError:  # a null byte
        yield Missing(text, f"{text!r}: not the path of a file.")


def _camera(text: str) -> Source:
    place = text.removeprefix(CAMERA)
    if place.isdecimal():
        return Film(text, int(place), True)
    if place.startswith("/dev/"):
        return Film(text, place, True)
    return Missing(text, f"{text}: a camera has a number, as in camera:0; 'kdedge doctor' lists them.")


def _matching(text: str, seen: _Seen) -> Iterator[Source]:
    from glob import glob

    wanted = SUFFIXES | VIDEO_SUFFIXES
    names = [name for name in sorted(glob(text, recursive=True)) if _suffix(name) in wanted]  # noqa: PTH207
    if not names:
        yield Missing(text, f"{text}: no image matches this pattern.")
    yield from _new(names, seen)


def _new(names: Iterable[str], seen: _Seen) -> Iterator[Source]:
    for name in names:
        whole = os.path.abspath(name)  # noqa: PTH100  resolve() would follow links, and take longer
        if whole in seen.files or any(_below(whole, folder) for folder in seen.folders):
            continue
        seen.files.add(whole)
        yield Film(name, name) if _suffix(name) in VIDEO_SUFFIXES else Still(name)


def _folder(root: str, seen: _Seen, outside: str | None) -> Iterator[Source]:
    """Its images that were not given before."""
    there = os.path.abspath(root)  # noqa: PTH100
    found = False
    for one in _walk(root, outside):
        found = True
        whole = os.path.abspath(one.name)  # noqa: PTH100
        if whole not in seen.files and not any(_below(whole, folder) for folder in seen.folders):
            yield one
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        yield Missing(root, f"{root}: no images found ({kinds} are looked for, at any depth).")
    seen.folders.append(there)


def _walk(folder: str, outside: str | None) -> Iterator[Still | Missing]:
    """Files and folders of each folder together by name, which is the order of the whole paths."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(
                (entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        yield Missing(folder, f"{folder}: this folder cannot be read ({error.strerror or error}).")
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            if outside is None or os.path.realpath(entry.path) != outside:
                yield from _walk(entry.path, outside)
        elif _suffix(entry.name) in SUFFIXES and entry.is_file():
            yield Still(entry.path)


def _below(path: str, folder: str) -> bool:
    """Whether walking the folder has met this file: not if a name on the way is hidden."""
    if not path.startswith(folder.rstrip(os.sep) + os.sep) or _suffix(path) not in SUFFIXES:
        return False
    return not any(part.startswith(".") for part in Path(os.path.relpath(path, folder)).parts)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _from_stdin(stdin: BufferedReader, outside: str | None) -> Iterator[Source]:
    head = stdin.peek(64)
    if _like_an_image(head):
        yield Still(STDIN, stdin.read())
        return
    nothing = True
    for name in _names(stdin, b"\0" if b"\0" in head.partition(b"\n")[0] else b"\n"):
        nothing = False
        yield from _one(name, _Seen(), outside, patterns=False)
    if nothing:
        yield Missing(STDIN, "-: stdin is empty; an image or names of files, one a line, were expected.")


def _like_an_image(head: bytes) -> bool:
    return head.startswith(_HEADS) or (head.startswith(b"BM") and b"\0" in head[:14])


def _names(stdin: BufferedReader, end: bytes) -> Iterator[str]:
    """What stands between the ends, as soon as it is there."""
    rest = b""
    while piece := stdin.read1(1 << 16):
        *whole, rest = (rest + piece).split(end)
        yield from (name for text in whole if (name := _name(text, end)))
    if name := _name(rest, end):
        yield name


def _name(text: bytes, end: bytes) -> str:
    return os.fsdecode(text.rstrip(b"\r") if end == b"\n" else text)


def common_folder(arguments: Iterable[str]) -> Path:
    """The deepest folder that all files lie below which the arguments mean; the working folder with ``-``, or without files."""
    roots = []
    for text in arguments:
        if text == STDIN:
            return Path.cwd()
        if text.startswith((CAMERA, "/dev/video")) or _STREAM.match(text):
            continue
        path = Path(text).absolute()
        if not path.is_dir():
            while not path.parent.is_dir() and path.parent != path:  # a pattern, whose folders are no names
                path = path.parent
            path = path.parent
        roots.append(os.path.normpath(path))
    try:
        return Path(os.path.commonpath(roots)) if roots else Path.cwd()
    except ValueError:  # on two drives
        return Path.cwd()
