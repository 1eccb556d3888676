"""The options of ``kdedge export --from``."""

from pathlib import Path
from typing import TYPE_CHECKING

from kdedge.errors import ExportError

if TYPE_CHECKING:
    from kdedge.card import ModelCard
    from kdedge.export.sources import ForeignOptions

__all__ = ["foreign_options", "refuse_foreign"]


def foreign_options(
    source: Path,
    calibrate: Path | None,
    labels: Path | None,
    val: Path | None,
    mean: str | None,
    std: str | None,
    color: str | None,
    resize: str | None,
    size: int | None,
    embedding: str | None,
    output: str | None,
    name: str,
    licence: str,
) -> "ForeignOptions":
    """What ``--from`` needs; what is not given comes from the file's card, if it has one.

    Raises:
        ExportError: something is missing or wrong; it is named.
    """
    from kdedge.cli.triple import triple
    from kdedge.data.label_list import read_labels
    from kdedge.export.sources import ForeignOptions

    card = _card(source)
    if calibrate is None:
        raise ExportError("--from needs --calibrate DIR, a folder of images like those the device will see.")
    if labels is None and card is None:
        raise ExportError("--from needs --labels FILE, the class names in the order of the network's outputs.")
    channels = triple(mean, "--mean"), triple(std, "--std")
    known = card.preprocess if card else None
    means = channels[0] or (known.mean if known else None)
    stds = channels[1] or (known.std if known else None)
    if means is None or stds is None:
        raise ExportError(
            "--from needs --mean and --std, in units of 0-255: an ONNX file does not say how its input is prepared "
            "(0,0,0 and 1,1,1 for raw pixels; 0,0,0 and 255,255,255 for pixels from 0 to 1)."
        )
    color = color or (known.color if known else "rgb")
    resize = resize or (known.resize if known else "crop")
    if color not in ("rgb", "bgr"):
        raise ExportError(f"--color {color}: choose rgb or bgr.")
    if resize not in ("crop", "squash"):
        raise ExportError(f"--resize {resize}: choose crop or squash.")
    return ForeignOptions(
        labels=read_labels(labels) if labels else card.labels if card else (),
        mean=means,
        std=stds,
        calibrate=calibrate,
        color=color,  # type: ignore[arg-type]
        resize=resize,  # type: ignore[arg-type]
        size=size or (known.size if known else None),
        val=val,
        embedding=embedding,
        output=output,
        name=name or (card.name if card else ""),
        licence=licence or (card.licence if card else ""),
    )


def _card(source: Path) -> "ModelCard | None":
    """The card of a file of kdedge's; None for any other, which :func:`kdedge.export.foreign.read_foreign` looks at."""
    from kdedge.card import METADATA_KEY
    from kdedge.export.graph import read_card

    try:
        with source.open("rb") as file:
            if METADATA_KEY.encode() not in file.read():
                return None
    except OSError:
        return None
    return read_card(source)


def refuse_foreign(**given: object) -> None:
    """Raise ExportError if an option of ``--from`` was given without it."""
    for name, value in given.items():
        if value is not None:
            raise ExportError(f"--{name} belongs to --from FILE; a run knows its own.")
