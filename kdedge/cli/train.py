"""``kdedge train``: the paper's baselines on labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train one of the paper's baselines on labelled images."
)

Out = Annotated[Path, typer.Option("--out", help="Run directory to make.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="Class folders; a fifth of each is set aside for validation.")
]
Train = Annotated[Path | None, typer.Option("--train", help="Class folders to train on, all of them.")]
Val = Annotated[Path | None, typer.Option("--val", help="Class folders to choose the best evaluation on.")]
Test = Annotated[Path | None, typer.Option("--test", help="Class folders that are scored once, at the end.")]
Manifest = Annotated[
    Path | None, typer.Option("--manifest", help="CSV file that holds the split, from 'kdedge data split'.")
]
Size = Annotated[int | None, typer.Option("--size", help="Input, pixels; the network's own if not given.")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the labelled images.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps, instead of epochs.")]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Training time, instead of epochs.")]
Batch = Annotated[int, typer.Option("--batch", help="Images a step.")]
Lr = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
Decay = Annotated[float, typer.Option("--weight-decay", help="Of matrices and kernels.")]
Optimizer = Annotated[str, typer.Option("--optimizer", help="adamw or adam.")]
Schedule = Annotated[
    str, typer.Option("--schedule", help="cosine (with warm-up), inverse-sqrt (lr / sqrt(1 + epoch)) or constant.")
]
AugmentName = Annotated[str, typer.Option("--augment", help="Random views: default, light or paper.")]
SmallImages = Annotated[bool, typer.Option("--small-images", help="A ResNet's stem for images of 32 to 64 pixels.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32, bf16 or auto (the faster, measured).")]
Evaluations = Annotated[
    int, typer.Option("--evaluations", help="How often the network is scored on validation images.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of weights, views and order.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped, with its own settings.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
Json = Annotated[bool, typer.Option("--json", help="Print the scores as JSON on stdout.")]


@app.command(short_help="From random weights on the labels alone.")
def scratch(
    out: Out,
    student: Annotated[str, typer.Option("--student", help="family/name.")] = "timm/efficientnet_lite0",
    data: Data = None,
    train: Train = None,
    val: Val = None,
    test: Test = None,
    manifest: Manifest = None,
    size: Size = None,
    epochs: Epochs = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = 16,
    lr: Lr = 1e-3,
    weight_decay: Decay = 0.05,
    optimizer: Optimizer = "adamw",
    schedule: Schedule = "cosine",
    augment: AugmentName = "default",
    small_images: SmallImages = False,
    precision: Precision = "auto",
    evaluations: Evaluations = 8,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train a network from random weights on the labelled images alone (the paper's S6).

    \b
    Examples:
      kdedge train scratch --student kdedge/convnet9 --data labelled/ --out runs/scratch
      kdedge train scratch --student torchvision/resnet18 --small-images --size 32 --train train/ --test test/ \\
          --optimizer adam --schedule inverse-sqrt --augment paper --epochs 100 --out runs/resnet18
    """
    given = locals()
    run_fit("scratch", given, network=given.pop("student"))


@app.command(short_help="A published trunk, frozen, and a new head.")
def transfer(
    out: Out,
    network: Annotated[str, typer.Option("--network", help="family/name.")] = "timm/efficientnet_lite0",
    weights: Annotated[str, typer.Option("--weights", help="Of the trunk: pretrained, auto or a file.")] = "pretrained",
    data: Data = None,
    train: Train = None,
    val: Val = None,
    test: Test = None,
    manifest: Manifest = None,
    size: Size = None,
    epochs: Epochs = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = 16,
    lr: Lr = 1e-3,
    weight_decay: Decay = 0.05,
    optimizer: Optimizer = "adamw",
    schedule: Schedule = "cosine",
    augment: AugmentName = "default",
    precision: Precision = "auto",
    evaluations: Evaluations = 8,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Freeze a network's convolutions and train a new classifier on them (the paper's S7).

    \b
    Examples:
      kdedge train transfer --data labelled/ --out runs/transfer
      kdedge train transfer --network torchvision/inception_v3 --train train/ --test test/ --out runs/inception
    """
    run_fit("transfer", locals(), freeze=True)


@app.command("label-kd", short_help="Labels and a teacher's class probabilities.")
def label_kd(
    out: Out,
    teacher: Annotated[str | None, typer.Option("--teacher", help="run:DIR, a classifier of the same classes.")] = None,
    student: Annotated[str, typer.Option("--student", help="family/name.")] = "timm/efficientnet_lite0",
    alpha: Annotated[float, typer.Option("--alpha", help="Weight of the labels, 0-1.")] = 0.1,
    temperature: Annotated[float, typer.Option("--temperature", help="Of both softmaxes.")] = 1.0,
    views: Annotated[int, typer.Option("--views", help="Views of each image that the teacher sees, once.")] = 8,
    weights: Annotated[
        str, typer.Option("--weights", help="Of the trunk: random, auto, pretrained or a file.")
    ] = "random",
    data: Data = None,
    train: Train = None,
    val: Val = None,
    test: Test = None,
    manifest: Manifest = None,
    size: Size = None,
    epochs: Epochs = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = 32,
    lr: Lr = 1e-3,
    weight_decay: Decay = 0.05,
    optimizer: Optimizer = "adamw",
    schedule: Schedule = "cosine",
    augment: AugmentName = "default",
    small_images: SmallImages = False,
    precision: Precision = "auto",
    evaluations: Evaluations = 8,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Learn from the labels and from a teacher's class probabilities (the paper's S8).

    The loss is alpha CE(y, s) + (1 - alpha) CE(softmax(t / T), softmax(s / T)).

    \b
    Examples:
      kdedge teacher fit --network torchvision/resnet18 --data labelled/ --out runs/teacher
      kdedge train label-kd --teacher run:runs/teacher --data labelled/ --out runs/label-kd
    """
    given = locals()
    run_fit("label-kd", given, network=given.pop("student"))


def run_fit(method: str, given: Mapping[str, Any], **more: Any) -> None:
    """Turn a command's options into settings, train, print the scores."""
    import json as js
    import sys

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra

    need_train_extra()
    from kdedge.training.augment import Augment
    from kdedge.training.fit import fit
    from kdedge.training.fit_config import FitConfig, read_fit_config
    from kdedge.training.fit_meta import fit_meta

    if given["resume"]:
        config = read_fit_config(given["out"] / "config.toml")
    else:
        apart = ("resume", "overwrite", "json", "augment")
        values: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in given.items() if k not in apart}
        config = FitConfig(method=method, augment=Augment.named(given["augment"]), **values, **more)
    done = (fit_meta if config.method in ("oneshot", "maml") else fit)(
        config,
        resume=given["resume"],
        overwrite=given["overwrite"],
        bars=progress_bar,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if given["json"]:
        print(js.dumps({"run": str(done.run.path), **done.scores}))
        return
    for part in ("train", "val", "test"):
        if f"{part}_triplet_accuracy" in done.scores:
            print(f"{part:6s}triplets {done.scores[f'{part}_triplet_accuracy']:.4f}")
        if f"{part}_task_accuracy" in done.scores:
            after, before, half = (done.scores[f"{part}_task_accuracy{end}"] for end in ("", "_before", "_interval"))
            print(f"{part:6s}tasks {after:.4f} ± {half:.4f} after adaptation, {before:.4f} before")
        if f"{part}_accuracy" in done.scores:
            words = ", ".join(
                f"{name} {done.scores[f'{part}_{key}']:.4f}"
                for name, key in (
                    ("accuracy", "accuracy"),
                    ("F1", "f1_macro"),
                    ("precision", "precision_macro"),
                    ("recall", "recall_macro"),
                )
            )
            print(f"{part:6s}{words}")
    if method == "teacher":
        print(f"next: kdedge distill --teacher run:{done.run.path} --transfer DIR --train DIR --out runs/student")
    else:
        print(f"next: kdedge export {done.run.path} --int8")
