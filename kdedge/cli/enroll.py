"""``kdedge enroll``: teach a model a new class on the device, from a few images and without training."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdedge.data.faces import FaceFinder
    from kdedge.preprocess import Image
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.enrol import Enrolment, Pictured

__all__ = ["enroll", "files_of", "open_model"]


def enroll(
    name: Annotated[str, typer.Argument(help="What to call the class.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Images that show it, and it alone.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="The gallery file.  [default: $KDEDGE_GALLERY, else one of the model's own]")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Forget the images that the class had.")] = False,
    faces: Annotated[
        bool, typer.Option("--faces", help="Find and align the one face of each photograph, and enrol that.")
    ] = False,
    largest: Annotated[
        bool, typer.Option("--largest", help="With --faces: of several faces take the largest.")
    ] = False,
    detector: Annotated[
        Path | None, typer.Option(help="A YuNet .onnx file for --faces, instead of the one fetched on first use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
) -> None:
    """Enrol a class: 'kdedge classify' knows it from then on.

    One image is enough, five to sixteen under different conditions are much better. Images of a class that is enrolled
    already are added to it; a picture counts once. No image is stored, only sums of embeddings. Pictures that cannot be used
    are named and left out; the exit code is then 2.

    \b
    Examples:
      kdedge enroll mug mug1.jpg mug2.jpg
      kdedge enroll Ada photos/ada/ --faces --model runs/faces
      kdedge enroll Ada 'new/*.jpg' --faces --largest --replace
      kdedge enroll mug mugs/ --gallery kitchen.json --json
    """
    import os

    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what cannot be decoded is said by us, once
    from kdedge.cli.classify_faces import face_finder, face_notes
    from kdedge.cli.progress import progress_bar
    from kdedge.errors import DataError
    from kdedge.files import sha256_of
    from kdedge.runtime.enrol import enrol
    from kdedge.runtime.gallery_file import gallery_path

    classifier = open_model(model, threads)
    path = gallery_path(sha256_of(classifier.path), gallery)
    read = _face_reader(classifier, face_finder(detector), largest) if faces or detector else classifier.load
    face_notes(classifier.card, faces or detector is not None)
    pictures, bad = _pictures(files_of(images), read)
    if not pictures:
        raise DataError(f"{name}: none of the {bad} images can be used; nothing was enrolled.")
    with progress_bar(f"Enrolling {name}") as progress:
        done = enrol(classifier, path, name, pictures, replace_it=replace, progress=progress)
    print(_json(done, path) if as_json else _words(done, path))
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if bad:
        print(f"error: {bad} of {bad + len(pictures)} could not be used.", file=sys.stderr)
        raise typer.Exit(2)


def open_model(model: str | None, threads: int | None = None) -> "Classifier":
    """The model that ``--model`` means, on the CPU, as it is without a gallery; it is named on stderr."""
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.models import default_model

    path, why = default_model(model)
    classifier = Classifier(path, threads, provider="cpu", unknown="never")
    card = classifier.card
    print(f"model: {card.name} ({card.precision}), {why}: {path}", file=sys.stderr)
    return classifier


def files_of(given: list[str]) -> list[Path]:
    """The image files that names, folders and patterns mean, each once; DataError for one that means none."""
    from glob import glob

    from kdedge.data.folder import SUFFIXES, find_images
    from kdedge.errors import DataError

    files: dict[Path, None] = {}
    for text in given:
        path = Path(text)
        if path.is_dir():
            found = find_images(path)
        elif path.exists() or not any(sign in text for sign in "*?["):
            found = [path]
        else:
            names = sorted(glob(text, recursive=True))  # noqa: PTH207  Path.glob refuses absolute ones
            found = [Path(name) for name in names if Path(name).suffix.lower() in SUFFIXES]
            if not found:
                raise DataError(f"{text}: no image matches this pattern.")
        files.update(dict.fromkeys(found))
    return list(files)


def _pictures(files: list[Path], read: "Callable[[Path], Image]") -> "tuple[list[Pictured], int]":
    """What can be used, and how many files cannot; these are named on stderr."""
    from kdedge.errors import DataError
    from kdedge.runtime.enrol import Pictured

    found = []
    for file in files:
        try:
            found.append(Pictured(str(file), read(file)))
        except DataError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found, len(files) - len(found)


def _face_reader(classifier: "Classifier", finder: "FaceFinder", largest: bool) -> "Callable[[Path], Image]":
    from kdedge.data.faces import align
    from kdedge.errors import DataError
    from kdedge.preprocess import decode

    def read(file: Path) -> "Image":
        image = decode(file)
        found = finder.find(image)
        if not found:
            raise DataError(f"{file}: no face was found; give a photograph that shows one from the front.")
        if len(found) > 1 and not largest:
            raise DataError(
                f"{file}: shows {len(found)} faces; cut the right one out, or take the largest with --largest."
            )
        face = max(found, key=lambda one: one.box[2] * one.box[3])
        return classifier.load(align(image, face.landmarks, classifier.card.preprocess.size))

    return read


def _words(done: "Enrolment", path: Path) -> str:
    lines = [f"{done.name}: {done.images} image{'s' * (done.images != 1)}, {done.added} new"]
    if done.repeated:
        lines[0] += f", {done.repeated} known already"
    within = "one image, so nothing to compare" if done.within is None else f"{done.within:.2f}"
    lines.append(f"  alike among themselves (mean cosine)  {within}")
    lines.append(f"  most like {done.nearest!r} (mean cosine)  {done.similarity:.2f}")
    lines.append(f"  in {path}")
    return "\n".join(lines)


def _json(done: "Enrolment", path: Path) -> str:
    import json
    from dataclasses import asdict

    return json.dumps({**asdict(done), "gallery": str(path)}, ensure_ascii=False)
