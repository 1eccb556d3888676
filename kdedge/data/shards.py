"""Images as WebDataset shards: tar files whose members belong together by their name up to the first dot."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from kdedge.errors import DataError
from kdedge.files import atomic_path

__all__ = ["shard_names", "write_shard"]


def write_shard(path: str | Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (file name, bytes) pairs as a tar file, whole or not at all; the same members give the same bytes."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)  # its time is 0, its owner nobody
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def shard_names(path: str | Path) -> list[str]:
    """The members' names; DataError if it is no whole tar file."""
    try:
        with tarfile.open(path, "r:") as archive:
            return archive.getnames()
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path}: cannot be read as a tar file ({error}).") from error
