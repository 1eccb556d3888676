"""The card of an exported file, completed step by step."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx

import kdedge
from kdedge.card import ModelCard
from kdedge.export.int8 import Int8
from kdedge.export.judge import Judge
from kdedge.export.outputs import EMBEDDING, INPUT, LOGITS, PROBABILITIES
from kdedge.export.targets import Target
from kdedge.export.verify import Parity
from kdedge.files import sha256_of

__all__ = ["float16_card", "fp32_card", "int8_card"]

_PACKAGES = ("torch", "onnx", "onnxruntime", "timm")


def fp32_card(
    card: ModelCard, fp32: Path, target: Target, found: Parity, reference: str, made: Mapping[str, Any]
) -> ModelCard:
    """``card``, completed for the fp32 file.

    Args:
        found: its agreement with ``reference``, the network it came from.
        made: what else goes into the provenance.
    """
    model = onnx.load(fp32)
    stamp = {
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"kdedge": kdedge.__version__, **{name: _version(name) for name in _PACKAGES}},
        "opset": target.opset,
        "ir_version": target.ir_version,
    }
    earlier = {key: value for key, value in card.provenance.items() if key != "fp32_sha256"}
    names = [value.name for value in model.graph.output]
    weights = sum(_size(tensor) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    return card.with_(
        precision="fp32",
        target=target.name,
        parameters=card.parameters or weights,
        outputs={name: name for name in names if name in (LOGITS, PROBABILITIES, EMBEDDING)},
        input={"name": INPUT, "dtype": "float32", "layout": "NCHW", "batch": target.batch},
        parity={"reference": reference, **found.to_dict()},
        quantization={},
        fusion={},
        guard={},
        provenance={**earlier, **stamp, **made},
    )


def float16_card(card: ModelCard, fp32: Path, name: str, found: Parity) -> ModelCard:
    """The fp32 file's card, changed for the float16 file; ``name`` is that of the fp32 file."""
    return card.with_(
        precision="fp16",
        parity={"reference": name, **found.to_dict(), "fp32": dict(card.parity)},
        provenance={**card.provenance, "fp32_sha256": sha256_of(fp32)},
    )


def int8_card(card: ModelCard, fp32: Path, name: str, made: Int8, judge: Judge) -> ModelCard:
    """The fp32 file's card, changed for the int8 file; ``name`` is that of the fp32 file."""
    taken, target, limits = made.guarded.taken, made.quantizer.target, made.limits
    return card.with_(
        precision="int8",
        parity={"reference": name, **taken.found.parity.to_dict(), "fp32": dict(card.parity)},
        quantization={
            "method": made.choice.method,
            "candidates": {
                kind: {"kl": found.kl, "top1_agreement": found.top1_agreement}
                for kind, found in made.choice.table.items()
            },
            "images": made.quantizer.cached.collected.images,
            "calibration_key": made.quantizer.cached.key,
            "activations": target.activations,
            "weights": target.weights,
            "per_channel": target.per_channel,
            "reduce_range": target.reduce_range,
            "symmetric": target.symmetric,
            "bias_corrected": taken.corrected,
            "left_float": list(taken.left_float),
            "int8_conv_share": made.fusion.share,
        },
        fusion=made.fusion.to_dict(),
        guard={
            "max_drop_points": limits.max_drop,
            "drop_points": taken.found.drop,
            "measured_by": taken.found.measured_by,
            "images": taken.found.images,
            "accuracy_fp32": judge.accuracy(judge.reference),
            "accuracy_int8": taken.found.accuracy,
            "min_speedup": limits.min_speedup,
            "speedup": taken.speed.to_dict() if taken.speed else None,
        },
        provenance={**card.provenance, "fp32_sha256": sha256_of(fp32)},
    )


def _size(tensor: onnx.TensorProto) -> int:
    total = 1
    for dim in tensor.dims:
        total *= dim
    return total


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
