"""``kdedge card``: give an ONNX file its labels and preprocessing."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Give an ONNX file its labels and preprocessing.")


@app.callback()
def _group() -> None:
    """Give an ONNX file its labels and preprocessing."""


@app.command(short_help="Write a card into an ONNX file.")
def attach(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX classifier.")],
    card: Annotated[
        Path | None, typer.Option(help="A whole card: a run's card.json, or what kdedge info --json printed.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Class names in the order of the outputs: one a line, or a JSON list.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Mean to subtract, 0-255, e.g. 0,0,0.")] = None,
    std: Annotated[str | None, typer.Option(help="Deviation to divide by, 0-255, e.g. 255,255,255.")] = None,
    color: Annotated[str | None, typer.Option(help="Order of the channels: rgb or bgr.  [default: rgb]")] = None,
    resize: Annotated[
        str | None, typer.Option(help="crop to the central square, or squash the image.  [default: crop]")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels, where the file leaves them free.")] = None,
    name: Annotated[str | None, typer.Option(help="What it is called.  [default: the file's name]")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, instead of changing FILE.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the card that is there, or the file --out.")
    ] = False,
) -> None:
    """Write a card into an ONNX classifier, so that classify, evaluate and bench take it.

    The card comes from --card, or is made of --labels, --mean and --std; of a file that has a card, what is given is
    changed. Which output holds the answer, and whether as probabilities, is read from the network; the file is run once
    before it is written.

    \b
    Examples:
      kdedge card attach bare.onnx --card card.json
      kdedge card attach flowers.onnx --labels flowers.txt --mean 0,0,0 --std 255,255,255
      kdedge card attach flowers.onnx --labels blumen.txt --name blumen --out blumen.onnx
    """
    from kdedge.cli.triple import triple
    from kdedge.data.label_list import read_labels
    from kdedge.errors import ModelError

    if find_spec("onnx") is None:
        raise ModelError(
            "this command needs onnx: install kdedge with pip install 'kdedge[train]' (in a checkout -e '.[train]')."
        )
    from kdedge.export.attach import Given, attach, read_card_file

    given = Given(
        card=read_card_file(card) if card else None,
        labels=read_labels(labels) if labels else None,
        mean=triple(mean, "--mean"),
        std=triple(std, "--std"),
        color=color,
        resize=resize,
        size=size,
        name=name,
    )
    written = attach(file, given, out, overwrite)
    outputs = ", ".join(f"{role} in {tensor!r}" for role, tensor in written.outputs.items())
    print(f"{out or file}: {written.name}, {len(written.labels)} labels, {written.preprocess.size} px, {outputs}")
    print(f"next   kdedge classify IMAGE --model {out or file}")
