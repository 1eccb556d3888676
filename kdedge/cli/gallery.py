"""``kdedge gallery``: what was enrolled, and the threshold below which an image is of nobody."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdedge.cli.enroll import files_of, open_model

if TYPE_CHECKING:
    from kdedge.preprocess import Image
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.gallery import Gallery

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See and change what was enrolled.")

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="An .onnx file, a run directory or a model of the zoo.")
]
File = Annotated[
    Path | None, typer.Option("--gallery", help="The file.  [default: $KDEDGE_GALLERY, else one of the model's own]")
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@app.callback()
def _group() -> None:
    """See and change what was enrolled with 'kdedge enroll'."""


FEW = 0.5
"""Share of known images; a threshold that lets fewer pass is doubtful."""


@app.command("list", short_help="The enrolled classes.")
def list_(model: Model = None, gallery: File = None, as_json: Json = False) -> None:
    """List the enrolled classes: how many images each has, how alike these are, and which class is most like it.

    \b
    Examples:
      kdedge gallery list
      kdedge gallery list --model runs/faces --json
    """
    classifier, there, path = _open(model, gallery)
    rows = _rows(classifier, there)
    if as_json:
        rejection = dict(there.rejection) if there else {}
        print(json.dumps({"gallery": str(path), "classes": rows, "rejection": rejection}, ensure_ascii=False))
        return
    if not rows:
        print(f"nobody is enrolled in {path}")
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        within = "   -" if row["within"] is None else f"{row['within']:4.2f}"
        like = f"most like {row['nearest']} {row['similarity']:.2f}"
        print(
            f"{row['name']:<{width}}  {row['images']:4} image{' ' if row['images'] == 1 else 's'}  alike {within}  {like}"
        )
    if there and there.rejection:
        print(_threshold_words(there))


@app.command(short_help="One class, or the whole gallery.")
def show(
    name: Annotated[str | None, typer.Argument(help="The class; the gallery's head without it.")] = None,
    model: Model = None,
    gallery: File = None,
) -> None:
    """Show all that the gallery holds of a class, or its head, as JSON.

    \b
    Examples:
      kdedge gallery show
      kdedge gallery show Ada
    """
    from kdedge.errors import DataError

    classifier, there, path = _open(model, gallery)
    rows = {row["name"]: row for row in _rows(classifier, there)}
    if there is None:
        raise DataError(f"{path}: nobody is enrolled; 'kdedge enroll NAME IMAGES' begins a gallery.")
    if name is None:
        head = {"gallery": str(path), "model": {"sha256": there.model, "name": there.name}, "dim": there.dim}
        print(
            json.dumps(
                {**head, "classes": list(rows), "rejection": dict(there.rejection)}, ensure_ascii=False, indent=1
            )
        )
        return
    if name not in rows:
        there.without(name)  # says who is there
    entry = there.classes[name]
    print(
        json.dumps(
            {**rows[name], "added": entry.added, "fingerprints": list(entry.images)}, ensure_ascii=False, indent=1
        )
    )


@app.command(short_help="Forget classes.")
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The classes to forget.")],
    model: Model = None,
    gallery: File = None,
    as_json: Json = False,
) -> None:
    """Forget enrolled classes, all that are named or, if one is not there, none.

    \b
    Examples:
      kdedge gallery remove Ada
      kdedge gallery remove mug cup --gallery kitchen.json
    """
    from kdedge.errors import DataError
    from kdedge.runtime.gallery_file import change_gallery

    _, there, path = _open(model, gallery)
    if there is None:
        raise DataError(f"{path}: nobody is enrolled.")

    def change(found: "Gallery | None") -> "Gallery":
        left = before = found or there
        for name in dict.fromkeys(names):
            before.without(name)  # says who was there
            left = left.without(name)
        return left

    made = change_gallery(path, change)
    left = list(made.classes)
    told = {"gallery": str(path), "removed": names, "left": left}
    print(
        json.dumps(told, ensure_ascii=False) if as_json else f"removed {', '.join(names)}; {len(left)} left in {path}"
    )
    if not left and made.rejection.get("applied"):
        print(
            f"note: the threshold {made.rejection['threshold']:.3f} stays; 'kdedge gallery clear' forgets it, too",
            file=sys.stderr,
        )


@app.command(short_help="Forget everything.")
def clear(
    yes: Annotated[bool, typer.Option("--yes", help="Really do it.")] = False, model: Model = None, gallery: File = None
) -> None:
    """Remove the gallery file: enrolled classes and threshold.

    \b
    Examples:
      kdedge gallery clear --yes
    """
    from kdedge.errors import DataError

    _, there, path = _open(model, gallery)
    if there is None:
        print(f"nobody is enrolled in {path}")
        return
    if not yes:
        raise DataError(f"{path}: this forgets {len(there.classes)} classes for good; say --yes.")
    path.unlink(missing_ok=True)
    print(f"removed {path}")


@app.command(short_help="Set the threshold with images of strangers.")
def calibrate(
    unknown: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images of none of the classes, at any depth.")
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folders named after classes, trained or enrolled, of their images."),
    ] = None,
    false_accept: Annotated[
        float, typer.Option("--false-accept", help="Share of strangers that may be taken for known, 0-1.")
    ] = 0.01,
    model: Model = None,
    gallery: File = None,
    as_json: Json = False,
) -> None:
    """Set the threshold below which an image is unknown, with images of true strangers, and keep it in the gallery.

    With fewer than 1 / RATE strangers, the rate that they can promise is said instead. --known measures how many images of
    the classes pass; of a model file without prototypes (an older export) it makes these, too.

    \b
    Examples:
      kdedge gallery calibrate --unknown strangers/
      kdedge gallery calibrate --known people/ --unknown strangers/ --false-accept 0.05
      kdedge gallery calibrate --known classes/ --model old.onnx
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.data.folder import class_folders
    from kdedge.errors import DataError
    from kdedge.runtime.enrol import calibrate_gallery

    if unknown is None and known is None:
        raise DataError(
            "nothing to calibrate with: give --unknown DIR (images of strangers), and --known DIR if you can."
        )
    classifier, there, path = _open(model, gallery)
    names = (*classifier.card.labels, *(there.classes if there else ()))
    folders = class_folders(known, names) if known else None
    strangers = files_of([str(unknown)]) if unknown else []
    with progress_bar("Reading images") as progress:
        told = _told(classifier, [*(folders.paths if folders else ()), *strangers], progress)
    count = len(folders.paths) if folders else 0
    labelled = [(names[label], image) for label, image in zip(folders.labels if folders else (), told, strict=False)]
    with progress_bar("Measuring") as progress:
        made = calibrate_gallery(classifier, path, labelled, told[count:], false_accept, progress)
    if as_json:
        print(json.dumps({"gallery": str(path), "rejection": dict(made.rejection)}, ensure_ascii=False))
    else:
        print(_threshold_words(made) if made.rejection else "prototypes made; too little for a threshold")
        print(f"in {path}")
    for doubt in _doubts(made.rejection, classifier.card.rejection, false_accept):
        print(f"warning: {doubt}", file=sys.stderr)


def _doubts(found: Mapping[str, Any], card: Mapping[str, Any], asked: float) -> Iterator[str]:
    """What speaks against a threshold that was just set."""
    if not found.get("applied"):
        return
    if found["strangers"] and found["false_accept"] > asked:
        yield (
            f"{found['strangers']} images of strangers promise {found['false_accept']:.1%} at most, not the {asked:.1%} "
            f"asked for; give {math.ceil(1 / asked) - 1} or more."
        )
    if found["known"]:
        if found["known_accept"] < FEW:
            yield (
                f"only {found['known_accept']:.1%} of the known images pass, most of what the model knows is called unknown. "
                "Are the strangers really none of the classes?"
            )
        return
    stricter = [choice for choice in card.get("choices", ()) if choice["threshold"] <= found["threshold"]]
    if stricter and (kept := min(choice["known_accept"] for choice in stricter)) < FEW:
        yield (
            f"at export no more than {kept:.1%} of the images of trained classes would have passed such a threshold; "
            "measure with --known DIR. Are the strangers really none of the classes?"
        )


def _told(classifier: "Classifier", paths: list[Path], progress: Any) -> "list[Image]":
    images = []
    for done, path in enumerate(paths, 1):
        images.append(classifier.load(path))
        progress(done, len(paths))
    return images


def _open(model: str | None, gallery: Path | None) -> "tuple[Classifier, Gallery | None, Path]":
    from kdedge.files import sha256_of
    from kdedge.runtime.gallery import Gallery
    from kdedge.runtime.gallery_file import gallery_path

    classifier = open_model(model)
    digest = sha256_of(classifier.path)
    path = gallery_path(digest, gallery)
    if not path.exists():
        return classifier, None, path
    found = Gallery.read(path)
    found.check(digest, path)
    return classifier, found, path


def _rows(classifier: "Classifier", there: "Gallery | None") -> list[dict[str, Any]]:
    from kdedge.runtime.enrol import neighbours

    own = classifier.prototypes if there is None or there.base is None else there.base
    if there is None or own is None:
        return []
    alike = neighbours(there, own)
    return [
        {
            "name": name,
            "images": len(entry.images),
            "within": entry.spread,
            "nearest": alike[name][0],
            "similarity": alike[name][1],
        }
        for name, entry in there.classes.items()
    ]


def _threshold_words(there: "Gallery") -> str:
    found = there.rejection
    passed = found.get("known_accept")
    known = "" if passed is None else f", {passed:.1%} of {found['images']['known']} known images pass"
    missing = [name for name in there.classes if name not in found.get("enrolled", ())]
    stale = f"; set before {', '.join(missing)} was enrolled" if missing else ""
    return (
        f"threshold {found['threshold']:.3f}: at most {found['false_accept']:.1%} of strangers pass "
        f"({found['images']['strangers']} images){known}{stale}; {found['how']}"
    )
