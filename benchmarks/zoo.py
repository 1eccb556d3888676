"""Make an entry of the zoo, models/NAME/, from a finished run: model.int8.onnx, card.json, recipe.toml, README.md."""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import tomllib
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.common import fill, markdown_table
from kdedge.card import ModelCard
from kdedge.errors import DataError, KdedgeError
from kdedge.files import sha256_of, write_json, write_text
from kdedge.training.config import read_config

MODELS = Path(__file__).parents[1] / "models"
MOST_BYTES = 6_000_000
MARKER = "zoo:table"
PATHS = ("out", "transfer", "data", "train", "val", "test")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path, help="run directory with student.int8.onnx")
    options.add_argument("name", help="name of the entry, faces-openpeople for one; an entry of that name is replaced")
    options.add_argument("--models", type=Path, default=MODELS, help="the zoo's folder")
    options.add_argument(
        "--evaluated", type=Path, help="JSON of 'kdedge evaluate' of that very file on its test images"
    )
    for name, what in (
        ("licence", "of the weights"),
        ("notes", "limits and use"),
        ("expects", "what an image has to show"),
    ):
        options.add_argument(f"--{name}", help=f"{what}, in words; instead of the card's own")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Make the entry, whole or not at all; return its folder."""
    from kdedge.export.graph import read_card, write_card  # needs kdedge[train]

    given = parser().parse_args(arguments)
    source = given.run / "student.int8.onnx"
    if not source.is_file():
        raise DataError(f"{given.run}: has no student.int8.onnx; make it with 'kdedge export {given.run} --int8'.")
    if source.stat().st_size > MOST_BYTES:
        raise DataError(f"{source}: {source.stat().st_size:,} bytes; the zoo takes at most {MOST_BYTES:,}.")
    summary = read_summary(given.run)
    words = {key: value for key in ("licence", "notes", "expects") if (value := getattr(given, key)) is not None}
    card = zoo_card(read_card(source), given.name, summary).with_(**words)
    if given.evaluated:
        card = card.with_(scores={**card.scores, "int8_test_accuracy": evaluated(given.evaluated, source)})
    given.models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.models, prefix=".making-") as scratch:
        folder = Path(scratch) / given.name
        folder.mkdir()
        model = folder / "model.int8.onnx"
        shutil.copyfile(source, model)
        write_card(model, card)
        write_json(folder / "card.json", card.to_dict())
        write_text(folder / "recipe.toml", recipe(given.run, given.name, summary))
        write_text(folder / "README.md", readme(card, model.stat().st_size))
        target = given.models / given.name
        if target.exists():
            shutil.rmtree(target)
        folder.replace(target)
    list_entries(given.models)
    return target


def read_summary(run: Path) -> dict[str, Any]:
    """``summary.json`` of a quickstart; empty for another run."""
    path = run / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def evaluated(report: Path, model: Path) -> float:
    """The accuracy in a report of ``kdedge evaluate``; DataError if it is about another file."""
    found = json.loads(report.read_text(encoding="utf-8"))
    if found["sha256"] != sha256_of(model):
        raise DataError(
            f"{report}: is about another file than {model}; run 'kdedge evaluate {model} DATA --json' again."
        )
    return round(float(found["accuracy"]), 6)


def zoo_card(card: ModelCard, name: str, summary: dict[str, Any]) -> ModelCard:
    """The card under the entry's name, with the scores of the very file where the run measured them."""
    # not those of the side experiments (from scratch, shift): other students reached them
    measured = {
        "int8_test_accuracy": "student_int8_accuracy",
        "fp32_test_accuracy": "student_fp32_accuracy",
    }
    found = {ours: round(float(summary[theirs]), 6) for ours, theirs in measured.items() if theirs in summary}
    return card.with_(name=name, scores={**card.scores, **found})


def recipe(run: Path, name: str, summary: dict[str, Any]) -> str:
    """TOML: the command that makes the entry again, and every setting of the run, without paths of one machine."""
    import tomli_w

    settings = {key: value for key, value in asdict(read_config(run / "config.toml")).items() if value is not None}
    out = f"runs/{name}"
    for key in PATHS:
        if key in settings:
            settings[key] = out if key == "out" else below(Path(settings[key]), run, out)
    teacher = settings["teacher"]
    for key in ("teacher", "teacher_weights", "student_weights"):
        settings[key] = without_folder(settings[key])
    if summary:
        command = ["kdedge", "quickstart", "--student", summary["student"], "--seed", str(summary["seed"])]
        command += ["--budget", f"{summary['budget_minutes']:g}", "--out", out]
        commands = [command]
    else:
        own = Path(teacher.removeprefix("run:")) / "config.toml"
        files = [own] if teacher.startswith("run:") and own.is_file() else []
        commands = [command_of(file) for file in (*files, run / "config.toml")]
        commands.append(["kdedge", "export", out, "--int8"])
    zoo = ["python", "-m", "benchmarks.zoo", out, name]
    head = {"commands": [shlex.join(command) for command in (*commands, zoo)]}
    if summary:
        head["training_seconds"] = summary["training_seconds"]
    return tomli_w.dumps({**head, "distill": settings})


def command_of(config: Path) -> list[str]:
    """The words of the command that a run was begun with, without folders of this machine."""
    command = tomllib.loads(config.read_text(encoding="utf-8")).get("command", "")
    return [without_folder(word) for word in shlex.split(command)]


def below(path: Path, run: Path, out: str) -> str:
    """A folder of the run as one below ``out``; of another one, its name alone."""
    if path.resolve().is_relative_to(run.resolve()):
        return (PurePosixPath(out) / path.resolve().relative_to(run.resolve()).as_posix()).as_posix()
    tail = path.as_posix().rpartition(f"/{run.name}/")  # a run that was moved after it was made
    return f"{out}/{tail[2]}" if tail[1] else without_folder(path.as_posix())


def without_folder(text: str) -> str:
    """An absolute path (``onnx:`` or ``run:`` before it or not) without its folder; anything else as it is."""
    prefix, colon, rest = text.partition(":") if text.startswith(("onnx:", "run:")) else ("", "", text)
    return f"{prefix}{colon}{Path(rest).name}" if Path(rest).is_absolute() else text


def readme(card: ModelCard, size: int) -> str:
    """The entry's README, from its card."""
    pre, made = card.preprocess, card.provenance
    scores = markdown_table(("score", "value"), [(f"`{key}`", f"{value:.3f}") for key, value in card.scores.items()])
    facts = [
        f"a `{card.student}` of {card.parameters:,} parameters" if card.student else "",
        f"{card.precision}, {size / 1e6:.1f} MB, target `{card.target or 'any'}`",
        f"input {pre.size}x{pre.size} pixels, {pre.color.upper()}, (pixel - {numbers(pre.mean)}) / {numbers(pre.std)}",
        f"expects {card.expects}" if card.expects else "",
    ]
    faces = "--faces " if "face" in card.expects else ""
    how = [
        f"teacher: `{card.teacher}`" if card.teacher else "",
        f"student started from: {made['student_weights']}" if "student_weights" in made else "",
        f"images: {made['labelled_images']} labelled, {made['transfer_images']} in the transfer set besides"
        if "labelled_images" in made and "transfer_images" in made
        else "",
        f"{made['steps']} steps, loss `{made['loss']}`, seed {made['seed']}"
        if {"steps", "loss", "seed"} <= set(made)
        else "",
        f"calibration: `{card.quantization['method']}`; {card.quantization['int8_conv_share']:.0%} of the convolutions "
        "run in int8"
        if {"method", "int8_conv_share"} <= set(card.quantization)
        else "",
        "the commands and all settings: `recipe.toml`",
    ]
    return f"""# {card.name}

<!-- made by benchmarks/zoo.py from card.json; edit that, not this -->
{bullets(facts)}

```sh
kdedge classify {faces}photo.jpg --model {card.name}
```

## Labels

{len(card.labels)}: {", ".join(f"`{label}`" for label in card.labels)}

## Scores

{scores}
Shares are 0-1. Scores that begin with `int8_` are of this very file; the others are of its teacher, where the name says so, or
of the network before it was quantised.

## How it was made

{bullets(how)}

## Licence

{card.licence or "Not stated."}

## Limits

{card.notes or "Not stated."}
"""


def numbers(values: tuple[float, ...]) -> str:
    """``127``, or ``(1, 2, 3)`` where the channels differ."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def bullets(lines: list[str]) -> str:
    """A Markdown list of those that are not empty."""
    return "\n".join(f"- {line}" for line in lines if line)


def list_entries(models: Path) -> None:
    """Bring the table of ``models/README.md`` up to date, if there is one."""
    path = models / "README.md"
    if not path.is_file() or f"<!-- {MARKER} -->" not in path.read_text(encoding="utf-8"):
        return
    rows = []
    for file in sorted(models.glob("*/card.json")):
        card = ModelCard.from_json(file.read_text(encoding="utf-8"), str(file))
        size = (file.parent / "model.int8.onnx").stat().st_size
        rows.append(
            (f"[{card.name}]({card.name}/README.md)", f"`{card.student}`", len(card.labels), f"{size / 1e6:.1f}")
        )
    table = markdown_table(("name", "network", "labels", "MB"), rows)
    write_text(path, fill(path.read_text(encoding="utf-8"), MARKER, table))


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
