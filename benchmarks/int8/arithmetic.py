"""Which arithmetic the layers of a graph run in, counted in what onnxruntime made of it."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime

__all__ = ["as_on_arm", "layers", "optimised_layers"]

_INT8 = {"QLinearConv": "conv", "NhwcQLinearConv": "conv", "ConvInteger": "conv"}
_INT8 |= dict.fromkeys(("QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"), "linear")
_FLOAT = dict.fromkeys(("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv"), "conv")
_FLOAT |= dict.fromkeys(("Gemm", "MatMul", "FusedGemm", "FusedMatMul"), "linear")


def layers(path: Path) -> dict[str, int]:
    """Convolutions and products of an optimised graph, by arithmetic, and the Q and DQ nodes left between them."""
    kinds = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    found = {f"{kind}_{form}": 0 for kind in ("conv", "linear") for form in ("int8", "float")}
    for form, names in (("int8", _INT8), ("float", _FLOAT)):
        for name, kind in names.items():
            found[f"{kind}_{form}"] += kinds[name]
    return {
        **found,
        "quantize": kinds["QuantizeLinear"],
        "dequantize": kinds["DequantizeLinear"],
        "nodes": kinds.total(),
    }


def optimised_layers(path: Path, config: dict[str, str] | None = None) -> dict[str, int]:
    """The same of the graph that onnxruntime makes of a file on this machine, with these entries of its session's settings."""
    with TemporaryDirectory(prefix="kdedge-") as folder:
        dump = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(dump)
        for name, value in (config or {}).items():
            options.add_session_config_entry(name, value)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return layers(dump)


def as_on_arm() -> dict[str, str]:
    """Settings by which a session on x86 fuses signed integers as one on ARM does."""
    return {"session.qdqisint8allowed": "1"}
