"""Half precision for GPUs: weights and arithmetic in float16, input and outputs in float32."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

import kdedge
from kdedge.errors import ExportError
from kdedge.export.graph import clean
from kdedge.export.order import sort_nodes
from kdedge.export.quiet import quiet
from kdedge.export.targets import Target

__all__ = ["write_float16"]


def write_float16(fp32: Path, out: Path, target: Target) -> None:
    """Write the float16 form of an fp32 file.

    Raises:
        ExportError: the target has no use for it, or the network cannot be converted.
    """
    if not target.gpu:
        raise ExportError(f"--float16 is for GPUs; target {target.name} computes in int8 or fp32 on its processor.")
    try:
        with quiet():
            model = convert_float_to_float16(onnx.load(fp32), keep_io_types=True)
            sort_nodes(model.graph)  # the converter appends its casts
            clean(model, kdedge.__version__, target.ir_version)
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # whatever the insides of the converter raise
        raise ExportError(f"the network cannot be written in float16: {error}") from error
    onnx.save(model, out)
