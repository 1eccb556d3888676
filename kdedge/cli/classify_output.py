"""The forms in which ``kdedge classify`` prints its answers: a table, JSON lines, CSV."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from kdedge.decode import Box
    from kdedge.runtime.prediction import Prediction

__all__ = ["Record", "Writer", "records", "summary_lines", "writer_for"]

BOX = ("left", "top", "width", "height")
"""Columns of CSV that say where a face is."""


@dataclass(frozen=True)
class Record:
    """An answer and where it came from.

    Attributes:
        prediction: whose source is the file, ``file#2`` for its second face, ``clip.mp4#120`` for a frame.
        seconds: what the answer took, see :class:`kdedge.runtime.pipeline.Answer`.
        frame: number of the frame, from 0; None for an image.
        shown: when the frame is shown, seconds; None for an image.
        box: of a face; None for a whole image.
    """

    prediction: "Prediction"
    seconds: float
    frame: int | None = None
    shown: float | None = None
    box: "Box | None" = None


def records(
    predictions: "Sequence[Prediction]",
    boxes: "Sequence[Box]",
    seconds: float,
    frame: int | None = None,
    shown: float | None = None,
) -> list[Record]:
    """The answers to one image or frame.

    Args:
        predictions: of the whole image, or one a face.
        boxes: one a face; none of a whole image.
        seconds, frame, shown: see :class:`Record`.
    """
    places: Sequence[Box | None] = boxes or [None] * len(predictions)
    return [Record(one, seconds, frame, shown, box) for one, box in zip(predictions, places, strict=True)]


class Writer(Protocol):
    """Prints answers, each list at once."""

    def __call__(self, records: Sequence[Record], /) -> None:
        """Args:
        records: of one image or frame.
        """


def writer_for(as_json: bool, as_csv: bool, width: int, label_width: int, top: int, *, boxes: bool = False) -> Writer:
    """What prints to stdout, now: a progress bar may put something else in its place later.

    Args:
        width: of the column of names, of the table.
        label_width: of a label.
        top: labels an image.
        boxes: whether CSV has columns for them.
    """
    out = sys.stdout
    if hasattr(out, "reconfigure"):  # names of files need not be text; the bytes of one come out as they are
        out.reconfigure(
            errors="backslashreplace" if as_json else "surrogateescape" if _utf8(out) else "backslashreplace"
        )
    if as_csv:
        return _csv(out, top, BOX if boxes else ())

    def write(records: Sequence[Record]) -> None:
        lines = [_json(one, _utf8(out)) if as_json else _line(one, width, label_width) for one in records]
        if lines:
            print("\n".join(lines), file=out, flush=True)

    return write


def _utf8(out: TextIO) -> bool:
    return (getattr(out, "encoding", None) or "").lower().replace("-", "") == "utf8"


def _line(record: Record, width: int, label_width: int) -> str:
    prediction = record.prediction
    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    answers = "  ".join(f"{label:<{label_width}} {probability:6.1%}" for label, probability in pairs)
    if prediction.unknown:
        answers = f"{prediction.label:<{label_width}}         most like  {answers}"
    return f"{prediction.source:<{width}}  {answers}"


def _json(record: Record, utf8: bool) -> str:
    import json

    prediction = record.prediction
    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    answer = {
        "image": prediction.source,
        "label": prediction.label,
        "probability": prediction.probability,
        "unknown": prediction.unknown,
        "score": prediction.score,
        "top": [{"label": label, "probability": probability} for label, probability in pairs],
        "ms": round(record.seconds * 1000, 3),
    }
    if record.frame is not None:
        answer |= {"frame": record.frame, "seconds": round(record.shown or 0.0, 3)}
    if record.box is not None:
        answer["box"] = [round(value, 1) for value in record.box]
    return json.dumps(answer, ensure_ascii=not utf8)


def _csv(out: TextIO, top: int, box: Sequence[str]) -> Writer:
    import csv

    table = csv.writer(out, lineterminator="\n")
    places = [f"{name}_{place}" for place in range(1, top + 1) for name in ("label", "probability")]
    table.writerow(["image", "label", "probability", "unknown", "score", "ms", "frame", "seconds", *box, *places])

    def write(records: Sequence[Record]) -> None:
        for record in records:
            one = record.prediction
            pairs = [value for pair in zip(one.labels, one.probabilities, strict=True) for value in pair]
            score = "" if one.score is None else one.score
            frame = ("", "") if record.frame is None else (record.frame, round(record.shown or 0.0, 3))
            unknown = "true" if one.unknown else "false"
            milliseconds = round(record.seconds * 1000, 3)
            where = [round(value, 1) for value in record.box or ()] if box else []
            row = [one.source, one.label, one.probability, unknown, score, milliseconds, *frame, *where, *pairs]
            table.writerow(row)
        out.flush()

    return write


def summary_lines(predictions: "Sequence[Prediction]") -> list[str]:
    """What is written on an image: the labels of one answer, or one line for each of several faces."""
    if len(predictions) != 1:
        return [f"{place}: {one.label} {one.probability:.0%}" for place, one in enumerate(predictions, 1)]
    (one,) = predictions
    lines = [f"{label} {probability:.1%}" for label, probability in zip(one.labels, one.probabilities, strict=True)]
    return [one.label, *(f"most like {line}" for line in lines[:1])] if one.unknown else lines
