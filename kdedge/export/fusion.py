"""What share of a network really runs in int8, and what keeps the rest in float.

Quantize and dequantize nodes say what was hoped for. Only the graph that onnxruntime makes of them says which kernels
run, so the report is read from that graph wherever the device runs onnxruntime's CPU kernels.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from kdedge.export.fusion_graph import CONV_FLOAT, CONV_INT8, LINEAR_FLOAT, LINEAR_INT8, Running
from kdedge.export.session import cpu_session
from kdedge.export.targets import Target, native_target

__all__ = ["FusionReport", "Island", "fusion_report"]

ON_CPU, PLACEMENT = "onnxruntime CPU", "placement of Q/DQ"

_SIGNED_ALLOWED = "session.qdqisint8allowed"
"""onnxruntime's switch for signed activations: on where it was built for ARM, off on x86."""


@dataclass(frozen=True)
class Island:
    """Float operators between int8 layers: each costs a pass from integers to floats and one back.

    Attributes:
        ops: their operator types; DequantizeLinear, QuantizeLinear if values only change from one scale to another.
        nodes: their names.
    """

    ops: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class FusionReport:
    """Layers by the arithmetic they run in.

    Attributes:
        conv_total: convolutions, of any kind.
        conv_int8: those whose kernel multiplies integers.
        linear_total: fully connected layers and matrix products.
        linear_int8: likewise.
        float_nodes: names of the convolutions and products that stayed float.
        reasons: name of each of them to why, in words.
        islands: groups of float operators between int8 layers.
        kernel_source: ``onnxruntime CPU`` if read from the graph that onnxruntime runs, ``placement of Q/DQ`` if only
            from the file.
    """

    conv_total: int
    conv_int8: int
    linear_total: int
    linear_int8: int
    float_nodes: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    islands: tuple[Island, ...] = ()
    kernel_source: str = ON_CPU

    @property
    def share(self) -> float:
        """Share of the convolutions that run in int8, 0-1; of the products in a network without convolutions."""
        if self.conv_total:
            return self.conv_int8 / self.conv_total
        return self.linear_int8 / self.linear_total if self.linear_total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "conv_total": self.conv_total,
            "conv_int8": self.conv_int8,
            "linear_total": self.linear_total,
            "linear_int8": self.linear_int8,
            "share": self.share,
            "float_nodes": list(self.float_nodes),
            "reasons": dict(self.reasons),
            "islands": [{"ops": list(island.ops), "nodes": list(island.nodes)} for island in self.islands],
            "kernel_source": self.kernel_source,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "FusionReport":
        """What :meth:`to_dict` wrote, also an older one's; KeyError or TypeError if it is something else."""
        islands = tuple(Island(tuple(item["ops"]), tuple(item["nodes"])) for item in value.get("islands", ()))
        return cls(
            conv_total=int(value["conv_total"]),
            conv_int8=int(value["conv_int8"]),
            linear_total=int(value["linear_total"]),
            linear_int8=int(value["linear_int8"]),
            float_nodes=tuple(value["float_nodes"]),
            reasons=dict(value.get("reasons", {})),
            islands=islands,
            kernel_source=value.get("kernel_source", ON_CPU),
        )


def fusion_report(path: Path, target: Target | None = None, left_float: Collection[str] = ()) -> FusionReport:
    """Count the int8 layers of the file at ``path``, and say what keeps the others in float.

    For a device that runs onnxruntime's CPU kernels the graph is the one its CPU provider makes of the file here. For
    ``arm64`` on an x86 machine it is made with the switch that builds for ARM have on: the choice of integer kernels is
    then theirs. That switch is all that tells the two apart in the passes that fuse quantised layers; that an ARM
    machine registers the same kernels, and how fast they are, cannot be seen here. Layout changes (NCHWc) are x86's.

    For other devices (TensorRT) the report tells where the Q/DQ nodes are: a layer counts as int8 if its data and its
    weights come from DequantizeLinear. What TensorRT makes of it is known on the device alone.

    Args:
        target: device profile; None for this machine.
        left_float: names of the nodes that were left in float on purpose.
    """
    if target is not None and not target.on_cpu:
        placed = onnx.load(path, load_external_data=False)
        return _report(Running(placed, placed, signed=True, fused=False), left_float, PLACEMENT)
    arm = (native_target() if target is None else target.name) == "arm64"
    with TemporaryDirectory(prefix="kdedge-") as folder:
        dump = Path(folder) / "optimised.onnx"
        cpu_session(path, dump, {_SIGNED_ALLOWED: str(int(arm))})
        optimised = onnx.load(dump, load_external_data=False)
    return _report(Running(optimised, onnx.load(path, load_external_data=False), signed=arm), left_float, ON_CPU)


def _report(running: Running, left_float: Collection[str], source: str) -> FusionReport:
    kinds = [kind for kind in map(running.kind, running.graph.node) if kind]
    conv_int8 = sum(kind in CONV_INT8 for kind in kinds)
    linear_int8 = sum(kind in LINEAR_INT8 for kind in kinds)
    floats = [node for node in running.graph.node if running.kind(node) in CONV_FLOAT | LINEAR_FLOAT]
    names = [running.name(node) for node in floats]
    return FusionReport(
        conv_total=conv_int8 + sum(kind in CONV_FLOAT for kind in kinds),
        conv_int8=conv_int8,
        linear_total=linear_int8 + sum(kind in LINEAR_FLOAT for kind in kinds),
        linear_int8=linear_int8,
        float_nodes=tuple(names),
        reasons={name: running.reason(node, name, left_float) for name, node in zip(names, floats, strict=True)},
        islands=tuple(Island(ops, nodes) for ops, nodes in running.islands()),
        kernel_source=source,
    )
