"""``kdedge distill``."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["distill"]

Triple = Annotated[str | None, typer.Option()]


def _or_auto(text: str, option: str, least: float) -> float:
    """A number, or 0 for ``auto``."""
    from kdedge.errors import RunError

    if text == "auto":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        raise RunError(f"{option} is {text!r}; a number or auto was expected.") from None
    if not value > 0 or value < least:
        raise RunError(
            f"{option} is {text}; it must be at least {least:g}, or auto."
            if least
            else f"{option} is {text}; it must be above zero, or auto."
        )
    return value


def distill(
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    teacher: Annotated[
        str | None, typer.Option(help="timm/NAME, torchvision/NAME, run:DIR or onnx:FILE[:OUTPUT].")
    ] = None,
    student: Annotated[
        str, typer.Option(help="timm/NAME, torchvision/NAME or kdedge/convnet9.")
    ] = "timm/efficientnet_lite0",
    transfer: Annotated[
        str | None,
        typer.Option(
            help="Unlabelled images, any nesting; or tar shards: DIR/{000..999}.tar, a folder of them, a URL."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled class folders; a fifth becomes the validation set.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Labelled class folders to train on, instead of --data.")] = None,
    val: Annotated[Path | None, typer.Option(help="Labelled class folders to validate on.")] = None,
    test: Annotated[Path | None, typer.Option(help="Labelled class folders, scored once at the end.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="CSV file that holds the split, from 'kdedge data split', instead of folders.")
    ] = None,
    loss: Annotated[
        str, typer.Option(help="mse, cosine, mse+cosine, smoothl1+cosine, srd, mse+relational or bce.")
    ] = "mse+cosine",
    targets: Annotated[
        str, typer.Option(help="What is regressed, made of the teacher's activations: standardize, phi-s or raw.")
    ] = "standardize",
    teacher_mode: Annotated[
        str, typer.Option(help="cached: replay activations of --views views; live: ask the teacher in every step.")
    ] = "cached",
    mixup: Annotated[
        float, typer.Option(help="With --teacher-mode live: mix images in pairs (function matching), e.g. 1.")
    ] = 0.0,
    epochs: Annotated[float | None, typer.Option(help="Passes over all views (10 if nothing is said).")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of --epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train, instead of --epochs.")] = None,
    size: Annotated[int | None, typer.Option(help="Input of the student, pixels [default: the student's own].")] = None,
    batch: Annotated[
        str, typer.Option(help="Images a step, of all processes together; auto: 32 on a CPU, 256 on a GPU.")
    ] = "auto",
    lr: Annotated[
        str, typer.Option(help="Peak learning rate; auto: 3e-3 at a batch of 32, growing with its square root.")
    ] = "auto",
    optimizer: Annotated[str, typer.Option(help="adamw or adam.")] = "adamw",
    schedule: Annotated[
        str, typer.Option(help="cosine (with warm-up), inverse-sqrt (lr / sqrt(1 + epoch)) or constant.")
    ] = "cosine",
    weight_decay: Annotated[float, typer.Option(help="Weight decay of kernels and matrices.")] = 0.05,
    views: Annotated[int, typer.Option(help="Views of each transfer image that the teacher sees.")] = 2,
    train_views: Annotated[
        int, typer.Option(help="Views of each labelled image; 0 keeps them out of the transfer set.")
    ] = 20,
    epoch_images: Annotated[
        int, typer.Option(help="Views an epoch draws at random; 0 for all (the paper: 8192 of 102,400).")
    ] = 0,
    augment: Annotated[str, typer.Option(help="Random views: default, light or paper.")] = "default",
    head: Annotated[
        str, typer.Option(help="frozen: fit the last layer alone; unfrozen: then fine-tune everything on the labels.")
    ] = "frozen",
    head_epochs: Annotated[float, typer.Option(help="Of --head unfrozen: passes over the labelled images.")] = 20.0,
    head_lr: Annotated[float, typer.Option(help="Of --head unfrozen: peak learning rate.")] = 3e-4,
    connector: Annotated[
        bool,
        typer.Option("--connector", help="With --loss bce: keep the concept layer in the student, as in the paper."),
    ] = False,
    heldout: Annotated[float, typer.Option(help="Share of the transfer images to measure R2 and cosine on.")] = 0.05,
    student_weights: Annotated[str, typer.Option(help="auto, pretrained, random or a file.")] = "auto",
    teacher_weights: Annotated[str, typer.Option(help="pretrained, random or a file.")] = "pretrained",
    teacher_size: Annotated[int | None, typer.Option(help="Input of the teacher, pixels.")] = None,
    teacher_mean: Annotated[str | None, typer.Option(help="Mean the teacher subtracts, 0-255, e.g. 0,0,0.")] = None,
    teacher_std: Annotated[
        str | None, typer.Option(help="Deviation the teacher divides by, 0-255, e.g. 1,1,1.")
    ] = None,
    teacher_color: Annotated[str | None, typer.Option(help="rgb or bgr.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto (the faster, measured).")] = "auto",
    teacher_precision: Annotated[
        str, typer.Option(help="fp32, bf16 or auto (bf16 if faster and the activations agree).")
    ] = "auto",
    layout: Annotated[
        str, typer.Option(help="Images in memory: channels_last, contiguous or auto (measured).")
    ] = "auto",
    compiled: Annotated[
        str, typer.Option("--compile", help="torch.compile the student: on, off or auto (on a GPU, if it pays).")
    ] = "auto",
    threads: Annotated[str, typer.Option(help="CPU threads; auto: every core, or half of them if faster.")] = "auto",
    stream: Annotated[
        str, typer.Option(help="Tar shards: on reads them anew each epoch, off keeps decoded images, auto up to 32 GB.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on in --out with its own settings; with --teacher, begin if nothing is there."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON on stdout.")] = False,
) -> None:
    """Teach a small student to imitate a teacher's activations, then fit its head on a few labels.

    \b
    Examples:
      kdedge distill --teacher torchvision/resnet50 --transfer photos/ --data labelled/ --out runs/birds
      kdedge distill --teacher onnx:faces.onnx --teacher-mean 0,0,0 --teacher-std 1,1,1 \\
          --student timm/resnet10t --size 112 --transfer faces/ --train train/ --test test/ --minutes 5 --out runs/faces
      kdedge distill --teacher run:runs/teacher --loss bce --connector --transfer photos/ --data labelled/ \\
          --optimizer adam --schedule inverse-sqrt --augment paper --epoch-images 8192 --epochs 100 --out runs/paper
      kdedge distill --resume --out runs/birds
      kdedge distill --teacher timm/convnext_base --transfer 'laion/{00000..00999}.tar' --data labelled/ --out runs/big
      accelerate launch --num_processes 4 -m kdedge distill --teacher timm/convnext_base --transfer photos/ \\
          --data labelled/ --out runs/four
    """
    import json as js
    import sys

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra
    from kdedge.errors import RunError

    if teacher is None and not resume:
        raise RunError(
            "give --teacher (timm/NAME, torchvision/NAME, run:DIR or onnx:FILE[:OUTPUT]), or --resume a run."
        )
    need_train_extra()
    if resume and teacher is not None and not (out / "config.toml").is_file():
        resume = False  # the same command begins a run and goes on with it: for jobs that may be stopped
    from kdedge.cli.triple import triple
    from kdedge.training.augment import Augment
    from kdedge.training.config import DistillConfig
    from kdedge.training.distill import distill as run_distill

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    if resume:
        from kdedge.training.config import read_config

        config = read_config(out / "config.toml")
    else:
        config = DistillConfig(
            teacher=teacher or "",
            student=student,
            out=str(out),
            transfer=transfer,
            data=text(data),
            train=text(train),
            val=text(val),
            test=text(test),
            manifest=text(manifest),
            loss=loss,
            targets=targets,
            teacher_mode=teacher_mode,
            mixup=mixup,
            epochs=epochs,
            steps=steps,
            minutes=minutes,
            size=size,
            batch=int(_or_auto(batch, "--batch", 2)),
            lr=_or_auto(lr, "--lr", 0),
            weight_decay=weight_decay,
            views=views,
            train_views=train_views,
            heldout=heldout,
            student_weights=student_weights,
            teacher_weights=teacher_weights,
            teacher_size=teacher_size,
            teacher_mean=triple(teacher_mean, "--teacher-mean"),
            teacher_std=triple(teacher_std, "--teacher-std"),
            teacher_color=teacher_color,
            precision=precision,
            teacher_precision=teacher_precision,
            layout=layout,
            compile=compiled,
            threads=int(_or_auto(threads, "--threads", 1)),
            stream=stream,
            seed=seed,
            optimizer=optimizer,
            schedule=schedule,
            epoch_images=epoch_images,
            head=head,
            head_epochs=head_epochs,
            head_lr=head_lr,
            connector=connector,
            augment=Augment.named(augment),
        )
    done = run_distill(
        config,
        resume=resume,
        overwrite=overwrite,
        bars=progress_bar,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if not done.engine.main:
        return  # one of several processes; the main one speaks
    if json:
        print(js.dumps({"run": str(done.run.path), "verdict": done.verdict, **done.scores}))
        return
    for key, value in done.scores.items():
        print(f"{key:24s} {value:.4f}")
    print(done.verdict)
    if done.card.labels:
        print(f"next: kdedge export {done.run.path} --int8")
