"""``kdedge evaluate``: scores of a model on labelled images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdedge.runtime.evaluate import ClassScore, Scores

__all__ = ["evaluate"]

MOST_COLUMNS = 20
"""Classes up to which a confusion matrix can be read."""


def evaluate(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] DATA",
            help="MODEL: an .onnx file, a run directory or a model of the zoo. DATA: a folder with one folder a class.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model, if not given as first argument.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the whole confusion matrix.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write that JSON to this file, too.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through the network at once.")] = 16,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default the cores there are, at most 4.")
    ] = None,
) -> None:
    """Accuracy, F1, precision, recall and confusion matrix of a model on labelled images.

    The folders of DATA are named like the model's labels. Images that cannot be read are named and left out; more than
    5 % of them is an error. Without MODEL: $KDEDGE_MODEL, else the newest export under runs/, else the zoo's default.

    \b
    Examples:
      kdedge evaluate runs/first data/test
      kdedge evaluate data/test --model student.int8.onnx --json --out scores.json
    """
    import os

    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from kdedge.cli.progress import progress_bar
    from kdedge.data.folder import class_folders
    from kdedge.errors import DataError
    from kdedge.files import sha256_of, write_json
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.evaluate import evaluate as score
    from kdedge.runtime.models import default_model

    if len(given) > 2 or (len(given) == 2 and model):
        raise DataError(
            f"one model and one folder of images were expected, got {' '.join([*given, model or '']).strip()}."
        )
    path, why = default_model(given[0] if len(given) == 2 else model)
    classifier = Classifier(path, threads)
    print(f"model: {classifier.card.name} ({classifier.card.precision}), {why}: {path}", file=sys.stderr)
    data = class_folders(given[-1], classifier.card.labels)
    with progress_bar("evaluate") as progress:
        result = score(classifier, data, batch, progress)
    for _, reason in result.unreadable:
        print(f"unreadable: {reason}", file=sys.stderr)
    found = {"model": str(path), "sha256": sha256_of(path), "data": given[-1], **result.to_dict()}
    if out:
        write_json(out, found)
    if as_json:
        import json

        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    _print_table(result.scores)
    if len(classifier.card.labels) <= MOST_COLUMNS:
        _print_confusion(result.scores)
    left_out = f", {len(result.unreadable)} unreadable left out" if result.unreadable else ""
    print(f"\naccuracy {result.scores.accuracy:.4f} on {result.images} images{left_out}")


def _print_table(scores: "Scores") -> None:
    rows: list[ClassScore] = [*scores.classes, scores.micro, scores.macro]
    width = max(len("class"), *(len(row.name) for row in rows))
    print(f"{'class':<{width}}  precision  recall      f1  images")
    for number, row in enumerate(rows):
        if number == len(scores.classes):
            print()
        print(f"{row.name:<{width}}  {row.precision:9.4f}  {row.recall:6.4f}  {row.f1:6.4f}  {row.images:6d}")


def _print_confusion(scores: "Scores") -> None:
    names = [score.name for score in scores.classes]
    width = max(len(name) for name in names)
    digits = max(4, len(str(scores.confusion.max())) + 1)
    places = len(str(len(names)))
    print("\nconfusion matrix (row: true class; column: predicted class, by the number before its name)")
    print(" " * (places + 2 + width) + "".join(f"{number:>{digits}}" for number in range(1, len(names) + 1)))
    for number, (name, row) in enumerate(zip(names, scores.confusion, strict=True), 1):
        print(f"{number:>{places}}  {name:<{width}}" + "".join(f"{count:>{digits}}" for count in row))
