"""The whole export: a trained student in, verified ONNX files with their cards out."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

import kdedge
from kdedge.card import ModelCard
from kdedge.errors import ExportError, RunError
from kdedge.export.fusion import FusionReport, int8_share
from kdedge.export.graph import IR_VERSION, OPSET, write_card
from kdedge.export.quantize import Quantized, check_method, quantize_int8
from kdedge.export.session import onnx_logits, torch_logits
from kdedge.export.targets import Target, target_for
from kdedge.export.to_onnx import export_fp32
from kdedge.export.verify import Parity, check_fp32, parity
from kdedge.files import atomic_path, sha256_of, write_json
from kdedge.preprocess import Preprocess, decode
from kdedge.progress import Progress
from kdedge.training.run import load_run

__all__ = ["FP32_NAME", "INT8_NAME", "ExportResult", "export_run", "export_student"]

FP32_NAME, INT8_NAME = "student.onnx", "student.int8.onnx"

_CALIBRATION_IMAGES = 300
_HELDOUT_IMAGES = 500
_PACKAGES = ("torch", "onnx", "onnxruntime", "timm")
# hundredths of the whole, about as long as each step takes for a small student
_EXPORTED, _VERIFIED, _CALIBRATED, _DONE = 30, 40, 70, 100


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote and how it compares; the fields on int8 are None where only fp32 was asked for.

    Attributes:
        parity_fp32: the fp32 file against the torch network.
        parity_int8: the int8 file against the fp32 file.
        card: that of the last file written.
        fp32_bytes, int8_bytes: sizes of the files.
    """

    fp32_path: Path
    int8_path: Path | None
    parity_fp32: Parity
    parity_int8: Parity | None
    fusion: FusionReport | None
    quantized: Quantized | None
    card: ModelCard
    fp32_bytes: int
    int8_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "fp32": {
                "path": str(self.fp32_path),
                "bytes": self.fp32_bytes,
                "parity_to_torch": self.parity_fp32.to_dict(),
            },
            "int8": self.int8_path
            and self.parity_int8
            and self.fusion
            and self.quantized
            and {
                "path": str(self.int8_path),
                "bytes": self.int8_bytes,
                "parity_to_fp32": self.parity_int8.to_dict(),
                "fusion": self.fusion.to_dict(),
                "quantization": asdict(self.quantized),
            },
        }


def export_student(
    student: nn.Module,
    card: ModelCard,
    out_dir: Path,
    *,
    calibration: NDArray[np.uint8] | None,
    heldout: NDArray[np.uint8],
    int8: bool = True,
    method: str = "auto",
    target: str = "x86",
    overwrite: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Write ``student.onnx`` and, with ``int8``, ``student.int8.onnx`` into ``out_dir``: both or neither.

    Args:
        student: the trained network, images (B, 3, size, size) to logits (B, classes).
        card: labels, preprocessing and scores; completed here and stored in each file.
        calibration: images for int8, fitted RGB, uint8, (N, size, size, 3); not the held-out ones.
        heldout: images to compare on, likewise, never trained on.
        checkpoint: the file the weights were read from; its hash goes into the card.
        progress: told of hundredths.

    Raises:
        RunError: a file exists and ``overwrite`` is false.
        ExportError: unknown target or calibration, no images, or the fp32 file differs from the network.
    """
    profile = target_for(target)
    calibrating = check_method(method)
    fp32_path, int8_path = out_dir / FP32_NAME, out_dir / INT8_NAME if int8 else None
    _refuse_existing([path for path in (fp32_path, int8_path) if path], overwrite)
    if not len(heldout):
        raise ExportError("an export needs held-out images to verify it on, none were given.")
    tell = progress or _untold
    pre = card.preprocess
    tell(0, _DONE)
    with TemporaryDirectory(prefix="kdedge-") as folder:
        fp32 = Path(folder) / FP32_NAME
        export_fp32(student, pre.size, fp32)
        tell(_EXPORTED, _DONE)
        reference = onnx_logits(fp32, heldout, pre)
        if reference.shape[1] != len(card.labels):
            raise ExportError(f"the network has {reference.shape[1]} outputs, the card {len(card.labels)} labels.")
        parity_fp32 = parity(torch_logits(student, heldout, pre), reference)
        check_fp32(parity_fp32)
        card = _fp32_card(card, student, profile, parity_fp32, checkpoint)
        write_card(fp32, card)
        tell(_VERIFIED, _DONE)
        quantized, fusion, parity_int8, quantized_file = None, None, None, Path(folder) / INT8_NAME
        if int8:
            if calibration is None:
                raise ExportError("int8 needs calibration images, none were given.")
            quantized = quantize_int8(
                fp32,
                quantized_file,
                calibration,
                pre,
                calibrating,
                heldout=heldout,
                target=profile,
                progress=lambda done, total, _note="": tell(
                    _VERIFIED + (_CALIBRATED - _VERIFIED) * done // total, _DONE
                ),
            )
            parity_int8 = parity(reference, onnx_logits(quantized_file, heldout, pre))
            fusion = int8_share(quantized_file)
            card = _int8_card(card, fp32, quantized, fusion, parity_int8)
            write_card(quantized_file, card)
        _place(fp32, fp32_path)
        if int8_path:
            _place(quantized_file, int8_path)
    tell(_DONE, _DONE)
    return ExportResult(
        fp32_path=fp32_path,
        int8_path=int8_path,
        parity_fp32=parity_fp32,
        parity_int8=parity_int8,
        fusion=fusion,
        quantized=quantized,
        card=card,
        fp32_bytes=fp32_path.stat().st_size,
        int8_bytes=int8_path.stat().st_size if int8_path else None,
    )


def _untold(done: int, total: int) -> None:
    """The progress of someone who does not look."""


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise RunError(f"{path} exists already; give --overwrite to replace it.")


def _place(source: Path, path: Path) -> None:
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)


def _fp32_card(
    card: ModelCard, student: nn.Module, target: Target, found: Parity, checkpoint: Path | None
) -> ModelCard:
    made = {
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"kdedge": kdedge.__version__, **{name: _version(name) for name in _PACKAGES}},
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }
    if checkpoint:
        made["checkpoint_sha256"] = sha256_of(checkpoint)
    earlier = {key: value for key, value in card.provenance.items() if key != "fp32_sha256"}
    return card.with_(
        precision="fp32",
        target=target.name,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        parity={"reference": "torch", **found.to_dict()},
        quantization={},
        provenance={**earlier, **made},
    )


def _int8_card(card: ModelCard, fp32: Path, quantized: Quantized, fusion: FusionReport, found: Parity) -> ModelCard:
    return card.with_(
        precision="int8",
        parity={"reference": FP32_NAME, **found.to_dict()},
        quantization={
            "method": quantized.method,
            "candidates": dict(quantized.candidates),
            "images": quantized.images,
            "activations": quantized.target.activations,
            "weights": quantized.target.weights,
            "per_channel": quantized.target.per_channel,
            "reduce_range": quantized.target.reduce_range,
            "int8_conv_share": fusion.share,
        },
        provenance={**card.provenance, "fp32_sha256": sha256_of(fp32)},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def export_run(
    run: Path,
    int8: bool = True,
    *,
    target: str = "x86",
    method: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export the student of a run directory into it and complete its ``card.json``.

    At most 300 of the run's training images calibrate and at most 500 of its held-out images verify, evenly spaced over
    the lists. A run without held-out images gives up every fifth training image for verification.

    Raises:
        RunError: ``run`` is no run directory, or a file exists and ``overwrite`` is false.
        ExportError: as :func:`export_student`.
        DataError: an image of the run is gone or unreadable.
    """
    target_for(target)
    check_method(method)
    _refuse_existing([run / FP32_NAME, *([run / INT8_NAME] if int8 else [])], overwrite)
    loaded = load_run(run)
    training, unseen = list(loaded.calibration), list(loaded.heldout)
    if not unseen:
        training, unseen = [path for i, path in enumerate(training) if i % 5], training[::5]
    result = export_student(
        loaded.student,
        loaded.card,
        run,
        calibration=_load(training, _CALIBRATION_IMAGES, loaded.card.preprocess) if int8 else None,
        heldout=_load(unseen, _HELDOUT_IMAGES, loaded.card.preprocess),
        int8=int8,
        method=method,
        target=target,
        overwrite=overwrite,
        checkpoint=loaded.checkpoint,
        progress=progress,
    )
    write_json(run / "card.json", result.card.to_dict())
    return result


def _load(paths: Sequence[Path], most: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """At most ``most`` images, evenly spaced over ``paths``: uint8, (N, size, size, 3), RGB."""
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths)), dtype=int))]
    if not chosen:
        return np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)
    return np.stack([preprocess.fit(decode(path)) for path in chosen])
