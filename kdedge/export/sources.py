"""What can be exported: a trained student, a run directory, any ONNX classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

import kdedge
from kdedge.card import ModelCard
from kdedge.data.folder import class_folders, find_images
from kdedge.errors import DataError, ExportError
from kdedge.export.foreign import read_foreign
from kdedge.export.graph import clean
from kdedge.export.inference import onnx_outputs, torch_outputs
from kdedge.export.pictures import Pictures
from kdedge.export.recipe import ExportOptions, Labels, Network, check_options, export_network
from kdedge.export.rejection import Known
from kdedge.export.result import ExportResult
from kdedge.export.targets import Target
from kdedge.export.to_onnx import export_fp32, fix_batch, with_opset
from kdedge.files import sha256_of, write_json
from kdedge.preprocess import Preprocess, decode
from kdedge.progress import Bars, no_bars
from kdedge.training.run import LoadedRun, load_run

__all__ = ["ForeignOptions", "export_foreign", "export_run", "export_student"]

_CALIBRATION_IMAGES = 300
_HELDOUT_IMAGES = 500
_KNOWN_IMAGES = 2000


def export_student(
    student: nn.Module,
    card: ModelCard,
    folder: Path,
    *,
    calibration: Pictures | NDArray[np.uint8] | None,
    heldout: NDArray[np.uint8],
    labels: Labels | None = None,
    known: Known | None = None,
    options: ExportOptions | None = None,
    checkpoint: Path | None = None,
    bars: Bars = no_bars,
) -> ExportResult:
    """Export a network in memory.

    Args:
        student: images (B, 3, size, size) to logits (B, classes).
        card: labels, preprocessing and scores; completed here and stored in each file.
        folder, calibration, heldout, labels, known, options: see :func:`kdedge.export.recipe.export_network`; arrays hold
            fitted RGB images, uint8, (N, size, size, 3).
        checkpoint: the file the weights were read from; its hash goes into the card.

    Raises:
        RunError, ExportError: see :func:`kdedge.export.recipe.export_network`.
    """
    pre = card.preprocess

    def write(path: Path, target: Target) -> None:
        export_fp32(student, pre.size, path, opset=target.opset, ir_version=target.ir_version, batch=target.batch)

    card = card.with_(parameters=sum(parameter.numel() for parameter in student.parameters()))
    made = {"checkpoint_sha256": sha256_of(checkpoint)} if checkpoint else {}
    network = Network(card, write, lambda images: torch_outputs(student, images, pre), "torch", made)
    pictures = Pictures(calibration, pre) if isinstance(calibration, np.ndarray) else calibration
    return export_network(
        network, folder, calibration=pictures, heldout=heldout, labels=labels, known=known, options=options, bars=bars
    )


def export_run(run: Path, options: ExportOptions | None = None, bars: Bars = no_bars) -> ExportResult:
    """Export the student of a run directory, into it unless ``options.out`` says otherwise.

    At most 300 of the run's training images calibrate and at most 500 of its held-out images verify: the labelled ones
    first, then others evenly spaced over the list. A run without held-out images gives up every fifth training image for
    verification. The run's ``card.json`` becomes the card of the file to deploy, unless ``options.out`` is given.

    Raises:
        RunError: ``run`` is no run directory, or a file exists and may not be replaced.
        ExportError: see :func:`kdedge.export.recipe.export_network`.
        DataError: an image of the run is gone or unreadable.
    """
    options = options or ExportOptions()
    check_options(options, run)
    loaded = load_run(run)
    training, unseen, labels = _images(loaded)
    pre = loaded.card.preprocess
    card = loaded.card.with_(provenance={**loaded.card.provenance, "data_sha256": _manifest_hash(loaded)})
    result = export_student(
        loaded.student,
        card,
        run,
        calibration=Pictures.from_paths(training, pre, _CALIBRATION_IMAGES),
        heldout=_load(unseen, pre),
        labels=labels,
        known=_known(loaded),
        options=options,
        checkpoint=loaded.checkpoint,
        bars=bars,
    )
    if options.out is None:
        write_json(run / "card.json", result.card.to_dict())
    return result


@dataclass(frozen=True)
class ForeignOptions:
    """How to read an ONNX classifier that kdedge did not make, and on what to quantise it.

    Attributes:
        labels: class names, in the order of the logits.
        mean, std: per channel, in units of 0-255 pixel values, in the order of ``color``.
        color, resize: see :class:`kdedge.preprocess.Preprocess`.
        size: pixels, where the file does not fix them.
        calibrate: folder of images like those the device will see, with or without class folders.
        val: class folders of labelled images to measure the accuracy on; their names are labels.
        embedding: name of the tensor to give out as embedding; None finds the penultimate one.
        output: name of the output that holds the classes, if there are several.
        name, licence: for the card.
    """

    labels: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    calibrate: Path
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["crop", "squash"] = "crop"
    size: int | None = None
    val: Path | None = None
    embedding: str | None = None
    output: str | None = None
    name: str = ""
    licence: str = ""


def export_foreign(
    file: Path, given: ForeignOptions, options: ExportOptions | None = None, bars: Bars = no_bars
) -> ExportResult:
    """Quantise and describe an ONNX classifier that kdedge did not train.

    A fifth of the images in ``given.calibrate`` verifies, up to 500 of them; of the others at most 300 calibrate. With
    ``given.val`` its images verify and all of ``given.calibrate`` may calibrate.

    Raises:
        RunError: a file exists and may not be replaced.
        ExportError: the file cannot be used, or see :func:`kdedge.export.recipe.export_network`.
        DataError: no image in a folder, or a class folder that is no label.
    """
    options = options or ExportOptions()
    if options.out is None:
        options = replace(options, out=Path(f"{file.stem}.{'int8' if options.int8 else 'fp32'}.onnx"))
    check_options(options, Path())
    foreign = read_foreign(file, size=given.size, embedding=given.embedding, output=given.output)
    if foreign.batch and not options.target.batch:  # the network fixes it inside; read_foreign tried to free it
        options = replace(options, target=replace(options.target, batch=foreign.batch))
    pre = Preprocess(foreign.size, given.mean, given.std, given.color, given.resize)
    if foreign.classes != len(given.labels):
        raise ExportError(
            f"{file}: the network has {foreign.classes} classes, the list has {len(given.labels)} labels."
        )
    training = list(find_images(given.calibrate))
    if not training:
        raise DataError(f"{given.calibrate}: no images to calibrate on.")
    labels: list[int] | None = None
    if given.val:
        labelled = class_folders(given.val, given.labels)
        rows = _spaced(range(len(labelled.paths)), _HELDOUT_IMAGES)
        unseen, labels = [labelled.paths[row] for row in rows], [labelled.labels[row] for row in rows]
    else:
        training, unseen = [path for i, path in enumerate(training) if i % 5], training[::5]
        unseen = [unseen[row] for row in _spaced(range(len(unseen)), _HELDOUT_IMAGES)]

    def write(path: Path, target: Target) -> None:
        model = with_opset(foreign.model, target.opset)
        fix_batch(model, target.batch)
        clean(model, kdedge.__version__, target.ir_version)
        onnx.save(model, path)

    card = ModelCard(
        given.name or file.stem,
        given.labels,
        pre,
        student=f"onnx:{file.name}",
        licence=given.licence,
        provenance={
            "source_sha256": sha256_of(file),
            "source_producer": foreign.producer,
            "source_changes": list(foreign.changes),
        },
    )
    with TemporaryDirectory(prefix="kdedge-") as folder:
        plain = Path(folder) / "source.onnx"  # the same answers as the file, compared by read_foreign
        onnx.save(foreign.model, plain)
        network = Network(card, write, lambda images: onnx_outputs(plain, images, pre), file.name)
        return export_network(
            network,
            Path(),
            calibration=Pictures.from_paths(training, pre, _CALIBRATION_IMAGES),
            heldout=_load(unseen, pre),
            labels=labels,
            options=options,
            bars=bars,
        )


def _images(loaded: LoadedRun) -> tuple[list[Path], list[Path], list[int]]:
    """Images to calibrate on, images to verify on, and the classes of the latter."""
    training, unseen, labels = list(loaded.calibration), list(loaded.heldout), list(loaded.heldout_labels)
    if not unseen:
        training, unseen = [path for i, path in enumerate(training) if i % 5], training[::5]
        labels = [-1] * len(unseen)
    known = [row for row, label in enumerate(labels) if label >= 0]
    other = [row for row, label in enumerate(labels) if label < 0]
    rows = _spaced(known, _HELDOUT_IMAGES)
    rows += _spaced(other, _HELDOUT_IMAGES - len(rows))
    return training, [unseen[row] for row in rows], [labels[row] for row in rows]


def _known(loaded: LoadedRun) -> Known | None:
    """Labelled training images, as many of each class where there are too many; None if the run did not note labels."""
    labels = np.asarray(loaded.calibration_labels, np.int64)
    each = max(1, _KNOWN_IMAGES // len(loaded.card.labels))
    rows = [row for label in range(len(loaded.card.labels)) for row in _spaced(np.flatnonzero(labels == label), each)]
    pictures = Pictures([loaded.calibration[row] for row in rows], loaded.card.preprocess)
    return Known(pictures, labels[rows]) if rows else None


def _spaced(rows: Sequence[int] | NDArray[np.int64], most: int) -> list[int]:
    if not len(rows) or most < 1:
        return []
    return [int(rows[i]) for i in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=int))]


def _load(paths: Sequence[Path], preprocess: Preprocess) -> NDArray[np.uint8]:
    if not paths:
        return np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)
    return np.stack([preprocess.fit(decode(path)) for path in paths])


def _manifest_hash(loaded: LoadedRun) -> str:
    """Hash of which images were trained on and held out: folder and file name of each, wherever they lie."""
    parts = {"trained": loaded.calibration, "heldout": loaded.heldout}
    lines = sorted(f"{part} {path.parent.name}/{path.name}" for part, paths in parts.items() for path in paths)
    return sha256("\n".join(lines).encode()).hexdigest()
