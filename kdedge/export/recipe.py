"""The whole export: a network in, verified ONNX files with their cards out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.errors import ExportError
from kdedge.export.cards import float16_card, fp32_card, int8_card
from kdedge.export.float16 import write_float16
from kdedge.export.graph import write_card
from kdedge.export.guard import Limits
from kdedge.export.inference import onnx_outputs
from kdedge.export.int8 import Int8, make_int8
from kdedge.export.judge import Judge
from kdedge.export.outputs import Outputs
from kdedge.export.pictures import Pictures
from kdedge.export.place import Files, place, refuse_existing
from kdedge.export.quantize import check_method
from kdedge.export.rejection import Known, with_prototypes
from kdedge.export.result import ExportResult, Written
from kdedge.export.targets import Target, target_for
from kdedge.export.validate import refuse_broken, validate
from kdedge.export.verify import Parity, check_float16, check_fp32, compare
from kdedge.progress import Bars, no_bars

__all__ = ["ExportOptions", "Labels", "Network", "check_options", "export_network"]

Labels = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    Attributes:
        int8, float16: whether to write such a file beside the fp32 one.
        method: calibration, or ``auto``.
        target: the device profile; that of this machine's processor if none is given.
        limits: what the int8 file must keep.
        out: the file to deploy; None takes the names of a run directory (see :class:`kdedge.export.place.Files`).
        overwrite: replace files of an earlier export.
    """

    int8: bool = True
    float16: bool = False
    method: str = "auto"
    target: Target = field(default_factory=lambda: target_for("auto"))
    limits: Limits = field(default_factory=Limits)
    out: Path | None = None
    overwrite: bool = False

    def files(self, folder: Path) -> Files:
        """The names of all files there may be."""
        if self.out is not None:
            return Files.named(self.out, self.int8, self.float16)
        return Files.of_run(folder, self.target.name)

    def asked(self, folder: Path) -> list[Path]:
        """The files that are asked for."""
        files = self.files(folder)
        return [files.fp32, *([files.fp16] if self.float16 else []), *([files.int8] if self.int8 else [])]


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
        card: labels, preprocessing and scores so far.
        write: writes the fp32 file for a target.
        outputs: what the network itself gives for fitted RGB images, uint8, (N, size, size, 3).
        name: what the fp32 file is compared with, in a word.
        made: what goes into the card's provenance.
    """

    card: ModelCard
    write: Callable[[Path, Target], None]
    outputs: Callable[[NDArray[np.uint8]], Outputs]
    name: str
    made: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Made:
    source: Path
    path: Path
    card: ModelCard
    parity: Parity
    reference: str


def check_options(options: ExportOptions, folder: Path) -> None:
    """Refuse, before any work, what cannot be done.

    Raises:
        RunError: a file exists and may not be replaced.
        ExportError: an unknown calibration, a name that cannot be, or float16 for a processor.
    """
    check_method(options.method)
    if options.float16 and not options.target.gpu:
        raise ExportError(
            f"--float16 is for GPUs; target {options.target.name} computes in int8 or fp32. For a Jetson: --target jetson."
        )
    refuse_existing(options.asked(folder), options.overwrite)


def export_network(
    network: Network,
    folder: Path,
    *,
    calibration: Pictures | None,
    heldout: NDArray[np.uint8],
    labels: Labels | None = None,
    known: Known | None = None,
    options: ExportOptions | None = None,
    bars: Bars = no_bars,
) -> ExportResult:
    """Write the fp32 file of a network and the others that were asked for: all of them or, on an error, none.

    An int8 file that misses its limits is not written; the result says why.

    Args:
        folder: takes the files if ``options.out`` names none.
        calibration: images for int8, not the held-out ones.
        heldout: images to compare on, fitted RGB, uint8, (N, size, size, 3), never trained on.
        labels: (N,) index of each held-out image's class, -1 where it is not known.
        known: labelled training images, for prototypes of the classes; None takes the labelled held-out ones.

    Raises:
        RunError: a file exists and may not be replaced.
        ExportError: no images, a network that cannot be exported, or a file that differs from its network or breaks a
            rule of its target.
    """
    options = options or ExportOptions()
    check_options(options, folder)
    if not len(heldout):
        raise ExportError("an export needs held-out images to verify it on, none were given.")
    if options.int8 and not (calibration is not None and len(calibration)):
        raise ExportError("int8 needs calibration images, none were given.")
    truth = np.full(len(heldout), -1, np.int64) if labels is None else np.asarray(labels, np.int64)
    files, pre = options.files(folder), network.card.preprocess
    with TemporaryDirectory(prefix="kdedge-") as name:
        work = Path(name)

        def told(path: Path, card: ModelCard) -> ModelCard:
            """The card, written into its file together with the prototypes that this file makes."""
            card = with_prototypes(path, card, known, heldout, truth)
            write_card(path, card)
            return card

        made = [_fp32(network, work / "fp32.onnx", files, heldout, options.target, told, bars)]
        reference = onnx_outputs(made[0].source, heldout, pre)
        if options.float16:
            made.append(_float16(made[0], work / "fp16.onnx", files, heldout, reference, options.target, told))
        int8: Int8 | None = None
        if options.int8 and calibration is not None:
            judge = Judge(heldout, truth, reference, pre)
            method = check_method(options.method)
            int8 = make_int8(made[0].source, work, calibration, judge, method, options.target, options.limits, bars)
            if int8.guarded.path:
                card = int8_card(made[0].card, made[0].source, files.fp32.name, int8, judge)
                card = told(int8.guarded.path, card)
                made.append(
                    _Made(int8.guarded.path, files.int8, card, int8.guarded.taken.found.parity, files.fp32.name)
                )
        written = {item.card.precision: _written(item, options.target) for item in made}
        place([(item.source, item.path) for item in made], options.asked(folder) if options.overwrite else ())
    return ExportResult(
        target=options.target,
        card=made[-1].card,
        fp32=written["fp32"],
        fp16=written.get("fp16"),
        int8=written.get("int8"),
        quantized=int8,
    )


def _fp32(
    network: Network,
    path: Path,
    files: Files,
    heldout: NDArray[np.uint8],
    target: Target,
    told: Callable[[Path, ModelCard], ModelCard],
    bars: Bars,
) -> _Made:
    with bars("Writing fp32") as progress:
        progress(0, 2)
        network.write(path, target)
        progress(1, 2)
        found = onnx_outputs(path, heldout, network.card.preprocess)
        if found.logits.shape[1] != len(network.card.labels):
            raise ExportError(
                f"the network has {found.logits.shape[1]} outputs, the card {len(network.card.labels)} labels."
            )
        close = compare(network.outputs(heldout), found)
        check_fp32(close)
        card = told(path, fp32_card(network.card, path, target, close, network.name, network.made))
        progress(2, 2)
    return _Made(path, files.fp32, card, close, network.name)


def _float16(
    fp32: _Made,
    path: Path,
    files: Files,
    heldout: NDArray[np.uint8],
    reference: Outputs,
    target: Target,
    told: Callable[[Path, ModelCard], ModelCard],
) -> _Made:
    write_float16(fp32.source, path, target)
    close = compare(reference, onnx_outputs(path, heldout, fp32.card.preprocess))
    check_float16(close)
    card = told(path, float16_card(fp32.card, fp32.source, files.fp32.name, close))
    return _Made(path, files.fp16, card, close, files.fp32.name)


def _written(item: _Made, target: Target) -> Written:
    """Hold the file to its target's rules."""
    rules = validate(item.source, target, item.card.precision, item.card.preprocess.size)
    refuse_broken(rules, target)
    return Written(
        item.path, item.source.stat().st_size, item.card.precision, item.reference, item.parity, tuple(rules)
    )
