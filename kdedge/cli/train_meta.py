"""``kdedge train oneshot`` and ``kdedge train maml``: learning to compare, and learning to adapt."""

from typing import Annotated

import typer

from kdedge.cli import train as options

__all__ = ["register"]

Network = Annotated[str, typer.Option("--network", help="family/name.")]
Weights = Annotated[str, typer.Option("--weights", help="Of the trunk: random, auto, pretrained or a file.")]


def oneshot(
    out: options.Out,
    network: Network = "timm/efficientnet_lite0",
    weights: Weights = "random",
    margin: Annotated[float, typer.Option("--margin", help="Of squared distances.")] = 1.0,
    data: options.Data = None,
    train: options.Train = None,
    val: options.Val = None,
    test: options.Test = None,
    manifest: options.Manifest = None,
    size: options.Size = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    minutes: options.Minutes = None,
    batch: Annotated[int, typer.Option("--batch", help="Triplets a step.")] = 16,
    lr: options.Lr = 1e-3,
    weight_decay: options.Decay = 0.05,
    optimizer: options.Optimizer = "adam",
    schedule: options.Schedule = "inverse-sqrt",
    augment: options.AugmentName = "default",
    small_images: options.SmallImages = False,
    precision: options.Precision = "auto",
    evaluations: options.Evaluations = 8,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Train a Siamese network with triplet loss (the paper's S4).

    The loss is max(|f(A) - f(P)|^2 - |f(A) - f(N)|^2 + margin, 0); the accuracy of triplets is the share with A nearer to P
    than to N. The run also classifies, by the nearest mean embedding of each class's labelled images.

    \b
    Examples:
      kdedge train oneshot --network kdedge/convnet9 --data labelled/ --out runs/oneshot
      kdedge train oneshot --network torchvision/resnet50 --weights pretrained --train train/ --val val/ --test test/ \\
          --epochs 50 --out runs/oneshot-resnet50
    """
    options.run_fit("oneshot", locals())


def maml(
    out: options.Out,
    network: Network = "kdedge/convnet9",
    weights: Weights = "random",
    ways: Annotated[int, typer.Option("--ways", help="Classes of a task.")] = 5,
    shots: Annotated[int, typer.Option("--shots", help="Images of each class to adapt on.")] = 1,
    queries: Annotated[int, typer.Option("--queries", help="Images of each class to be judged on.")] = 5,
    tasks: Annotated[int, typer.Option("--tasks", help="Tasks a step.")] = 4,
    inner_lr: Annotated[float, typer.Option("--inner-lr", help="Step size of the adaptation.")] = 0.01,
    inner_steps: Annotated[int, typer.Option("--inner-steps", help="Steps of the adaptation.")] = 1,
    first_order: Annotated[bool, typer.Option("--first-order", help="Leave the second derivatives out.")] = False,
    data: options.Data = None,
    train: options.Train = None,
    val: options.Val = None,
    test: options.Test = None,
    manifest: options.Manifest = None,
    size: options.Size = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    minutes: options.Minutes = None,
    lr: options.Lr = 1e-3,
    weight_decay: options.Decay = 0.0,
    optimizer: options.Optimizer = "adam",
    schedule: options.Schedule = "inverse-sqrt",
    augment: options.AugmentName = "default",
    small_images: options.SmallImages = False,
    precision: options.Precision = "fp32",
    evaluations: options.Evaluations = 8,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Learn weights from which a few gradient steps adapt to new classes (MAML, the paper's S5).

    Tasks are drawn from the labelled classes: a support set to adapt on, a query set that the adapted weights are judged on.
    The outer loop follows the query loss through the inner steps (second order) unless --first-order is given.

    \b
    Examples:
      kdedge train maml --network kdedge/convnet9 --data labelled/ --out runs/maml
      kdedge train maml --network timm/resnet10t --size 64 --ways 5 --shots 5 --inner-steps 3 --first-order \\
          --train train/ --val val/ --test test/ --out runs/fomaml
    """
    options.run_fit("maml", locals())


def register(app: typer.Typer) -> None:
    """Add the commands to ``kdedge train``."""
    app.command(short_help="A Siamese network with triplet loss.")(oneshot)
    app.command(short_help="Weights that adapt to new classes in a few steps.")(maml)
