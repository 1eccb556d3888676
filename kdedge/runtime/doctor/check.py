"""What ``kdedge doctor`` finds, and the machine it looks at: the real one, or a folder that plays another."""

import os
import platform
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Check", "Machine", "Status", "version_tuple"]

Status = Literal["ok", "info", "warn", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, at most :data:`kdedge.runtime.doctor.run.WIDEST` letters.
        status: ``ok``; ``info`` is neither good nor bad; ``warn`` costs speed or some use; ``problem`` makes exit code 1.
        found: in words.
        advice: what to do; empty where there is nothing to do.
        details: the same as plain JSON values, for programs.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "advice": self.advice,
            "details": dict(self.details),
        }


def _call(words: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            list(words),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return -1, ""
    return done.returncode, done.stdout.strip() or done.stderr.strip()


def _allowed() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Machine:
    """Where the checks look; every field can be faked.

    Attributes:
        root: folder that holds ``proc``, ``sys``, ``etc``, ``dev``...
        environ: environment variables.
        arch, system: as :mod:`platform` gives them.
        bits: of this Python, 32 or 64.
        cpus: logical processors this process may use.
        now: seconds since 1970.
        call: runs a command and gives its exit code (-1: not there) and what it printed.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    arch: str = field(default_factory=lambda: platform.machine().lower())
    system: str = field(default_factory=platform.system)
    bits: int = field(default_factory=lambda: struct.calcsize("P") * 8)
    cpus: frozenset[int] = field(default_factory=_allowed)
    now: float = field(default_factory=time.time)
    call: Callable[[Sequence[str]], tuple[int, str]] = _call

    def path(self, path: str) -> Path:
        """``path``, which begins with a slash, below the root."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """Text of a file without white space and NULs at its ends; empty if it cannot be read."""
        try:
            return self.path(path).read_text(errors="replace").strip().strip("\0").strip()
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """The whole number that a file holds, None if there is none."""
        try:
            return int(self.read(path))
        except ValueError:
            return None

    def output(self, words: Sequence[str]) -> str:
        """What a command prints; empty if it is not there or fails."""
        code, told = self.call(words)
        return told if code == 0 else ""

    @property
    def arm(self) -> bool:
        """Whether the processor is an ARM of 64 bits."""
        return self.arch in ("aarch64", "arm64")

    @property
    def board(self) -> str:
        """What a single-board computer calls itself: ``Raspberry Pi 5 Model B Rev 1.0``; empty on others."""
        return self.read("/proc/device-tree/model")

    @property
    def jetson(self) -> bool:
        """Whether this is an NVIDIA Jetson."""
        return "jetson" in self.board.lower() or self.path("/etc/nv_tegra_release").exists()


def version_tuple(text: str) -> tuple[int, ...]:
    """``(1, 32, 0)`` of ``1.32.0rc1``: the leading numbers, as far as they go."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
