"""Device profiles: which integers a device's int8 kernels want."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdedge.errors import ExportError

__all__ = ["TARGETS", "Target", "has_vnni", "target_for"]

TARGETS = ("x86",)

_VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True)
class Target:
    """The quantisation a device's kernels run fastest and without overflow.

    Attributes:
        name: as given to ``--target``.
        activations: integer type of the activations.
        weights: integer type of the weights.
        per_channel: a scale for each output channel of a convolution.
        reduce_range: 7-bit weights, for processors whose 8-bit products are added up in saturating 16 bits.
        note: what the user should know about the choice; empty if nothing.
    """

    name: str
    activations: Literal["uint8", "int8"] = "uint8"
    weights: Literal["int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    note: str = ""


def has_vnni(cpuinfo: str | None = None) -> bool | None:
    """Whether the processor adds 8-bit products in 32 bits (VNNI); None if it cannot be found out.

    Args:
        cpuinfo: text in the format of Linux's ``/proc/cpuinfo``; None reads that of this machine.
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return not _VNNI_FLAGS.isdisjoint(value.split())
    return None


def target_for(name: str, cpuinfo: str | None = None) -> Target:
    """The profile called ``name``, fitted to the processor it is exported on.

    Raises:
        ExportError: no such profile.
    """
    if name not in TARGETS:
        raise ExportError(f"target {name!r} is not supported; this version exports for {', '.join(TARGETS)} only.")
    vnni = has_vnni(cpuinfo)
    if vnni:
        return Target(name)
    reason = "has no VNNI instructions" if vnni is False else "could not be identified"
    note = f"this processor {reason}: weights are kept to 7 bits, which is safe everywhere and a little less exact."
    return Target(name, reduce_range=True, note=note)
