"""``kdedge teacher``: fit a teacher on labels, list the networks there are."""

from typing import Annotated

import typer

from kdedge.cli import train as options

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fit a teacher, or list the networks there are.")


@app.command(short_help="Train a teacher on labelled images.")
def fit(
    out: options.Out,
    network: Annotated[str, typer.Option("--network", help="family/name.")] = "torchvision/resnet50",
    weights: Annotated[
        str, typer.Option("--weights", help="To start from: auto, pretrained, random or a file.")
    ] = "auto",
    connector: Annotated[
        int, typer.Option("--connector", help="Concepts between trunk and head (the paper's 2048); 0 for none.")
    ] = 0,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the head alone.")] = False,
    data: options.Data = None,
    train: options.Train = None,
    val: options.Val = None,
    test: options.Test = None,
    manifest: options.Manifest = None,
    size: options.Size = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    minutes: options.Minutes = None,
    batch: options.Batch = 64,
    lr: options.Lr = 1e-3,
    weight_decay: options.Decay = 0.05,
    optimizer: options.Optimizer = "adamw",
    schedule: options.Schedule = "cosine",
    augment: options.AugmentName = "default",
    small_images: options.SmallImages = False,
    precision: options.Precision = "auto",
    evaluations: options.Evaluations = 8,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Train a network on labelled images to be a teacher: distill --teacher run:DIR imitates it.

    With --connector 2048 a linear layer and a sigmoid stand between trunk and head, and students imitate those concept
    probabilities with --loss bce (the paper's S10).

    \b
    Examples:
      kdedge teacher fit --data labelled/ --out runs/teacher
      kdedge teacher fit --network torchvision/resnet50 --small-images --size 32 --weights random \\
          --train train/ --val val/ --epochs 30 --out runs/teacher
      kdedge teacher fit --connector 2048 --data labelled/ --out runs/concepts
    """
    options.run_fit("teacher", locals())


@app.command("list", short_help="Networks that teach or learn.")
def list_networks(
    containing: Annotated[str, typer.Argument(metavar="[PART]", help="Part of the name, resnet for one.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the names as JSON on stdout.")] = False,
) -> None:
    """List the networks by name; all of them can be teachers and students.

    \b
    Examples:
      kdedge teacher list resnet50
      kdedge teacher list mobilenet --json
    """
    import json as js

    from kdedge.cli.train_extra import need_train_extra
    from kdedge.errors import ModelError

    need_train_extra()
    from kdedge.training.names import FAMILIES, known_names, suggest

    names = [
        f"{family}/{name}" for family in FAMILIES for name in known_names(family) if containing in f"{family}/{name}"
    ]
    if not names:
        raise ModelError(f"no network has {containing!r} in its name{suggest(containing)}")
    if json:
        print(js.dumps(names))
        return
    for name in names:
        print(name)
    print(f"{len(names)} networks; besides them onnx:FILE[:OUTPUT] and run:DIR can teach")
