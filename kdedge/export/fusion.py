"""What share of a network really runs in int8, read from the graph onnxruntime executes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from kdedge.export.session import cpu_session

__all__ = ["FusionReport", "int8_share"]

_CONV_INT8 = frozenset({"QLinearConv", "NhwcQLinearConv", "ConvInteger"})
_CONV_FLOAT = frozenset({"Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "ConvTranspose"})
_LINEAR_INT8 = frozenset({"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})
_LINEAR_FLOAT = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})


@dataclass(frozen=True)
class FusionReport:
    """Layers by the arithmetic they run in.

    Attributes:
        conv_total: convolutions, of any kind.
        conv_int8: those whose kernel multiplies integers.
        linear_total: fully connected layers and matrix products.
        linear_int8: likewise.
        float_nodes: names of the convolutions and products that stayed float.
    """

    conv_total: int
    conv_int8: int
    linear_total: int
    linear_int8: int
    float_nodes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the convolutions that run in int8, 0-1; of the products in a network without convolutions."""
        if self.conv_total:
            return self.conv_int8 / self.conv_total
        return self.linear_int8 / self.linear_total if self.linear_total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "float_nodes": list(self.float_nodes), "share": self.share}


def int8_share(path: Path) -> FusionReport:
    """Count the int8 layers of the graph that onnxruntime's CPU provider makes of the file at ``path``.

    Quantize and dequantize nodes say what was hoped for; only the optimised graph says which kernels run.
    """
    with TemporaryDirectory(prefix="kdedge-") as folder:
        dump = Path(folder) / "optimised.onnx"
        cpu_session(path, dump)
        nodes = onnx.load(dump, load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    conv_int8 = sum(kind in _CONV_INT8 for kind in kinds)
    linear_int8 = sum(kind in _LINEAR_INT8 for kind in kinds)
    return FusionReport(
        conv_total=conv_int8 + sum(kind in _CONV_FLOAT for kind in kinds),
        conv_int8=conv_int8,
        linear_total=linear_int8 + sum(kind in _LINEAR_FLOAT for kind in kinds),
        linear_int8=linear_int8,
        float_nodes=tuple(node.name or node.output[0] for node in nodes if node.op_type in _CONV_FLOAT | _LINEAR_FLOAT),
    )
