"""The process around a server: memory that stays flat, and C libraries that keep quiet."""

import ctypes
import os
import platform
import sys

__all__ = ["quiet_decoders", "tame_malloc"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""From glibc's malloc.h."""


def tame_malloc() -> bool:
    """Let glibc give memory back: two arenas, and large blocks from the system each time.

    By default every thread gets an arena of its own, and the size from which a block is given back when it is freed grows
    with the blocks that were freed, up to 32 MB: images and bodies then stay in the process for good.

    Returns:
        Whether that was done; musl, macOS and Windows have other allocators.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_ARENA_MAX, 2)) and bool(mallopt(M_MMAP_THRESHOLD, 1 << 20))


def quiet_decoders() -> None:
    """Keep stderr for Python alone.

    libjpeg and libpng write a line there for each damaged image, so whoever can send images could fill the log.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
