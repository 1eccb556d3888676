"""Device profiles: which integers, file format and shapes a device's int8 kernels want. Plain data.

What each number is for stands beside it; :mod:`kdedge.export.validate` checks every one on the file that was written.
"""

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kdedge.errors import ExportError

__all__ = ["IR_VERSIONS", "OPSETS", "TARGETS", "Target", "has_vnni", "native_target", "target_for"]

OPSETS = range(14, 22)
"""Operator sets an export may ask for: onnx cannot convert a ReLU below 14, onnxruntime's quantiser knows up to 21."""

IR_VERSIONS = range(7, 12)

_VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
_ARM = frozenset({"aarch64", "arm64"})
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})


@dataclass(frozen=True)
class Target:
    """The quantisation that a device's kernels run fastest and without overflow, and the file its runtime can read.

    Attributes:
        name: as given to ``--target``.
        activations: integer type of the activations.
        weights: integer type of the weights; their zero points are always 0.
        per_channel: a scale for each output channel of a convolution or linear layer.
        reduce_range: 7-bit weights, for processors whose 8-bit products are added up in saturating 16 bits.
        symmetric: activations have zero point 0, too.
        weights_as_float: weights stay float in the file, behind a Quantize-Dequantize pair (four times the bytes).
        quantize_bias: biases are stored as 32-bit integers.
        opset, ir_version: of the file.
        batch: images a run, 0 for any number.
        gpu: whether ``--float16`` is of use to it.
        on_cpu: whether the device runs the file with onnxruntime's CPU kernels, whose fusions can then be looked at.
        note: what the user should know about the choice; empty if nothing.
    """

    name: str
    activations: Literal["uint8", "int8"] = "uint8"
    weights: Literal["int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    symmetric: bool = False
    weights_as_float: bool = False
    quantize_bias: bool = True
    opset: int = 18
    ir_version: int = 8
    batch: int = 0
    gpu: bool = False
    on_cpu: bool = True
    note: str = ""

    @property
    def runs_here(self) -> bool:
        """Whether this machine's processor is of the target's kind, so that its speed can be measured here."""
        machine = platform.machine().lower()
        return (self.name == "x86" and machine in _X86) or (self.name == "arm64" and machine in _ARM)


_JETSON_NOTE = (
    "TensorRT builds its engine on the device at the first start, which takes minutes; give it an engine cache folder. "
    "On a CPU this file is slow: its ReLUs stay by themselves."
)

TARGETS: dict[str, Target] = {
    "x86": Target("x86"),
    # the dot-product instructions multiply signed by signed
    "arm64": Target("arm64", activations="int8"),
    # TensorRT takes symmetric scales alone and quantises weights and biases by itself; JetPack 5 reads opset 17
    "jetson": Target(
        "jetson",
        activations="int8",
        symmetric=True,
        weights_as_float=True,
        quantize_bias=False,
        opset=17,
        batch=1,
        gpu=True,
        on_cpu=False,
        note=_JETSON_NOTE,
    ),
    # WebAssembly's 128-bit dot product is 7 bit by 8 bit where it is fast, and adds in saturating 16 bits elsewhere
    "web": Target("web", note="measure the fp32 file beside this one in the browser: which is faster depends on it."),
}
"""Profiles by name."""


def native_target() -> str:
    """The profile of this machine's processor."""
    return "arm64" if platform.machine().lower() in _ARM else "x86"


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


def target_for(
    name: str,
    cpuinfo: str | None = None,
    *,
    vnni: bool | None = None,
    opset: int | None = None,
    ir_version: int | None = None,
    batch: int | None = None,
) -> Target:
    """The profile called ``name``, with some of its properties changed.

    Args:
        name: one of :data:`TARGETS`, or ``auto`` for the processor this runs on.
        cpuinfo: see :func:`has_vnni`.
        vnni: for x86, whether the device has VNNI; None looks at this machine.
        opset, ir_version: file format; None takes the profile's.
        batch: images a run, 0 for any number; None takes the profile's.

    Raises:
        ExportError: no such profile, or a property it cannot have.
    """
    name = native_target() if name == "auto" else name
    if name not in TARGETS:
        raise ExportError(f"target {name!r} is not known; choose one of {', '.join(TARGETS)} or auto.")
    target = TARGETS[name]
    if vnni is not None and name != "x86":
        raise ExportError(f"VNNI is an instruction set of x86 processors; it says nothing about target {name}.")
    if opset is not None and opset not in OPSETS:
        raise ExportError(f"opset {opset} is not possible; choose {OPSETS[0]} to {OPSETS[-1]}.")
    if ir_version is not None and ir_version not in IR_VERSIONS:
        raise ExportError(f"IR version {ir_version} is not possible; choose {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}.")
    if batch is not None and batch < 0:
        raise ExportError(f"batch is {batch}; give a number of images, or 0 for any number.")
    target = replace(
        target,
        opset=target.opset if opset is None else opset,
        ir_version=target.ir_version if ir_version is None else ir_version,
        batch=target.batch if batch is None else batch,
    )
    return _for_x86(target, vnni, cpuinfo) if name == "x86" else target


def _for_x86(target: Target, vnni: bool | None, cpuinfo: str | None) -> Target:
    if vnni is not None:
        found, reason = vnni, "--no-vnni was given"
    else:
        detected = has_vnni(cpuinfo)
        found = bool(detected)
        reason = f"this processor {'has no VNNI instructions' if detected is False else 'could not be identified'}"
    if found:
        return target
    note = f"{reason}: weights are kept to 7 bits, which is safe everywhere and a little less exact."
    return replace(target, reduce_range=True, note=note)
