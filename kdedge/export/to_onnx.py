"""From a PyTorch classifier to a plain fp32 ONNX file."""

import copy
import re
from pathlib import Path

import onnx
import torch
from onnx import version_converter
from timm.utils.model import reparameterize_model
from torch import nn

import kdedge
from kdedge.errors import ExportError
from kdedge.export.graph import IR_VERSION, OPSET, clean
from kdedge.export.outputs import INPUT, LOGITS, add_embedding
from kdedge.export.quiet import quiet
from kdedge.export.rewrites import rewrite

__all__ = ["export_fp32", "fix_batch", "with_opset"]


def export_fp32(
    model: nn.Module, size: int, path: Path, *, opset: int = OPSET, ir_version: int = IR_VERSION, batch: int = 0
) -> None:
    """Write ``model`` as one ONNX file.

    Input ``input`` (batch, 3, size, size); outputs ``logits`` (batch, classes) and, where a linear layer makes the
    logits of it, ``embedding`` (batch, dim). Exported in evaluation mode from a copy, whose parallel branches are merged
    where the network can do so (RepVGG, MobileOne); ``model`` itself is left alone.

    Args:
        opset, ir_version: of the file.
        batch: images a run; 0 leaves it free.

    Raises:
        ExportError: the network cannot be traced, or the graph is not valid ONNX or cannot be put into that opset.
    """
    still = copy.deepcopy(model).eval().float().cpu()
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                reparameterize_model(still),
                (torch.zeros(2, 3, size, size),),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            if program is None:
                raise ExportError("torch.onnx.export returned nothing.")
            proto = program.model_proto
    except Exception as error:  # the exporter raises a dozen kinds, none of which a user can tell apart
        raise ExportError(
            f"{type(model).__name__} cannot be exported to ONNX at {size} px: {_where(error)}."
        ) from error
    rewrite(proto)
    add_embedding(proto)
    proto = with_opset(proto, opset)
    fix_batch(proto, batch)
    clean(proto, kdedge.__version__, ir_version)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # ValidationError and InferenceError have no common base
        raise ExportError(f"{type(model).__name__} is no valid ONNX at {size} px: {_cause(error)}") from error
    onnx.save(proto, path)


def with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """``model`` in the operator set ``opset``; itself if it is there already.

    Raises:
        ExportError: an operator cannot be converted.
    """
    if any(item.version == opset for item in model.opset_import if item.domain in ("", "ai.onnx")):
        return model
    try:
        converted = version_converter.convert_version(model, opset)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the converter's errors have no common base
        raise ExportError(
            f"the network cannot be written in opset {opset}: {_cause(error)}; choose another with --opset."
        ) from error
    return converted


def fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Fix, in place, the first axis of the input and the outputs to ``batch``; 0 leaves it as it is."""
    if not batch:
        return
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch


def _cause(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _where(error: BaseException) -> str:
    """The operator and node that the exporter stopped at, if its chain of errors names them."""
    seen: BaseException | None = error
    operator = node = None
    while seen is not None:
        operator = operator or re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", str(seen))
        node = node or re.search(r"translating node %(\w+)", str(seen))
        seen = seen.__cause__ or seen.__context__
    if not operator:
        return _cause(error)
    return f"operator {operator[1]}" + (f" (node {node[1]})" if node else "") + " has no ONNX form"
