"""The options of ``kdedge export --from``."""

from pathlib import Path
from typing import TYPE_CHECKING

from kdedge.errors import ExportError

if TYPE_CHECKING:
    from kdedge.export.sources import ForeignOptions

__all__ = ["foreign_options", "refuse_foreign"]


def foreign_options(
    calibrate: Path | None,
    labels: Path | None,
    val: Path | None,
    mean: str | None,
    std: str | None,
    color: str,
    resize: str,
    size: int | None,
    embedding: str | None,
    output: str | None,
    name: str,
    licence: str,
) -> "ForeignOptions":
    """What ``--from`` needs; ExportError, naming it, for what is missing or wrong."""
    from kdedge.cli.triple import triple
    from kdedge.data.label_list import read_labels
    from kdedge.export.sources import ForeignOptions

    if calibrate is None:
        raise ExportError("--from needs --calibrate DIR, a folder of images like those the device will see.")
    if labels is None:
        raise ExportError("--from needs --labels FILE, the class names in the order of the network's outputs.")
    channels = triple(mean, "--mean"), triple(std, "--std")
    if channels[0] is None or channels[1] is None:
        raise ExportError(
            "--from needs --mean and --std, in units of 0-255: an ONNX file does not say how its input is prepared "
            "(0,0,0 and 1,1,1 for raw pixels; 0,0,0 and 255,255,255 for pixels from 0 to 1)."
        )
    if color not in ("rgb", "bgr"):
        raise ExportError(f"--color {color}: choose rgb or bgr.")
    if resize not in ("crop", "squash"):
        raise ExportError(f"--resize {resize}: choose crop or squash.")
    return ForeignOptions(
        labels=read_labels(labels),
        mean=channels[0],
        std=channels[1],
        calibrate=calibrate,
        color=color,  # type: ignore[arg-type]
        resize=resize,  # type: ignore[arg-type]
        size=size,
        val=val,
        embedding=embedding,
        output=output,
        name=name,
        licence=licence,
    )


def refuse_foreign(**given: object) -> None:
    """Raise ExportError if an option of ``--from`` was given without it."""
    for name, value in given.items():
        if value is not None:
            raise ExportError(f"--{name} belongs to --from FILE; a run knows its own.")
