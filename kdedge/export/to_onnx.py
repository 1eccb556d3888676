"""From a PyTorch classifier to a plain fp32 ONNX file."""

import copy
from pathlib import Path

import onnx
import torch
from timm.utils.model import reparameterize_model
from torch import nn

import kdedge
from kdedge.errors import ExportError
from kdedge.export.graph import OPSET, clean, pool_globally
from kdedge.export.quiet import quiet

__all__ = ["export_fp32"]


def export_fp32(model: nn.Module, size: int, path: Path) -> None:
    """Write ``model`` as one ONNX file: input ``input`` (batch, 3, size, size), output ``logits`` (batch, classes).

    The batch is free, height and width are fixed. The file is exported in evaluation mode from a copy, whose parallel
    branches are merged where the network can do so (RepVGG, MobileOne); ``model`` itself is left alone.

    Raises:
        ExportError: the network cannot be traced, or the graph is not valid ONNX.
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
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            if program is None:
                raise ExportError("torch.onnx.export returned nothing.")
            proto = program.model_proto
            pool_globally(proto)
            clean(proto, kdedge.__version__)
            onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # the exporter raises a dozen kinds, none of which a user can tell apart
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{type(model).__name__} cannot be exported to ONNX at {size} px: {cause[0]}") from error
    onnx.save(proto, path)
