"""``kdedge paper tables``, ``figures`` and ``ablation``: the paper's experiments on images of one's own."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ablation", "figures", "register", "tables"]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="CLASS/image (k a class are labelled, all others test images), or train/CLASS and test/CLASS.",
    ),
]
Manifest = Annotated[Path | None, typer.Option("--manifest", help="CSV file that holds the split, instead of --data.")]
Transfer = Annotated[
    Path | None,
    typer.Option("--transfer", help="Unlabelled images; else the images of train/ that are not drawn."),
]
ScaleName = Annotated[
    str,
    typer.Option("--scale", help="smoke (minutes, to try it), small (two CPU cores, about an hour) or full (a GPU)."),
]
Seeds = Annotated[int, typer.Option("--seeds", help="Runs of each method; at least 3, except at smoke.")]
PerClass = Annotated[int, typer.Option("--k", help="Labelled images a class; a fifth of them are for validation.")]
SplitSeed = Annotated[int, typer.Option("--split-seed", help="Of the draw of the labelled images.")]
Resume = Annotated[bool, typer.Option("--resume", help="Take what is finished in --out as it is and go on.")]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="With --resume: run again what was made with other settings.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def tables(
    data: Data = None,
    manifest: Manifest = None,
    transfer: Transfer = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="run:DIR from 'kdedge teacher fit'; else one is fitted first.")
    ] = None,
    teacher_data: Annotated[
        str | None,
        typer.Option(
            "--teacher-data",
            help="Class folders to fit the teacher on, or rest: images of train/ that are not drawn; else the labelled ones.",
        ),
    ] = None,
    scale: ScaleName = "small",
    seeds: Seeds = 3,
    k: PerClass = 32,
    split_seed: SplitSeed = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A method, with what it needs; may be given more than once.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for tables, figures and cells.")] = Path("runs/paper"),
    resume: Resume = False,
    recompute: Recompute = False,
    json: Json = False,
) -> None:
    """Run the paper's methods on one fixed split and write Tables 1 to 6, the paper's numbers beside ours.

    Each method and seed is a cell of its own below --out; an interrupted run goes on with --resume.

    \b
    Examples:
      kdedge paper tables --data cifar10/ --teacher-data rest
      kdedge paper tables --data faces/ --transfer unlabelled/ --scale full --seeds 3 --out runs/faces-tables
      kdedge paper tables --data cifar10/ --only scratch-resnet18 --only feature-kdedge --resume
    """
    import json as js

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra

    need_train_extra()
    from kdedge.errors import RunError
    from kdedge.paper.make import make_tables
    from kdedge.paper.material import gather
    from kdedge.paper.plan import paper_plan
    from kdedge.paper.tables import markdown

    if teacher and teacher_data:
        raise RunError("give either --teacher run:DIR or --teacher-data, not both.")
    plan = paper_plan(scale, seeds, teacher, tuple(only or ()))
    images = gather(
        plan.scale,
        progress_bar,
        _say,
        data=data,
        manifest=manifest,
        transfer=transfer,
        teacher_data=teacher_data,
        teacher_given=teacher is not None,
        k=k,
        split_seed=split_seed,
    )
    try:
        done = make_tables(plan, images, out, resume=resume, recompute=recompute, bars=progress_bar, say=_say)
    except KeyboardInterrupt:
        _say(f"finished cells are kept below {out}; the same command with --resume goes on from there")
        raise
    print(js.dumps(done) if json else markdown(done))
    _say(f"written: {out / 'tables.md'}, {out / 'tables.json'} and the figures beside them")


def figures(
    run: Annotated[Path, typer.Argument(help="Folder that 'kdedge paper tables' wrote.")],
    json: Json = False,
) -> None:
    """Draw the curves of finished cells again: loss, accuracy and F1 against the epoch (Figures 8 to 10).

    \b
    Examples:
      kdedge paper figures runs/paper
    """
    import json as js

    from kdedge.cli.train_extra import need_train_extra

    need_train_extra()
    from kdedge.paper.figures import redraw

    written = [str(path) for path in redraw(run)]
    print(js.dumps(written) if json else "\n".join(written))


def ablation(
    teacher: Annotated[
        str, typer.Option("--teacher", help="run:DIR, onnx:FILE[:OUTPUT], timm/NAME or torchvision/NAME.")
    ],
    data: Data = None,
    manifest: Manifest = None,
    transfer: Transfer = None,
    student: Annotated[str, typer.Option("--student", help="family/name.")] = "timm/mobilenetv4_conv_small",
    raw: Annotated[
        bool, typer.Option("--raw", help="Also regress activations that are not standardised, as the paper did.")
    ] = False,
    teacher_mean: Annotated[
        str | None, typer.Option("--teacher-mean", help="Mean an ONNX teacher subtracts, 0-255, e.g. 0,0,0.")
    ] = None,
    teacher_std: Annotated[
        str | None, typer.Option("--teacher-std", help="Deviation an ONNX teacher divides by, 0-255, e.g. 1,1,1.")
    ] = None,
    teacher_color: Annotated[
        str | None, typer.Option("--teacher-color", help="rgb or bgr, the order an ONNX teacher expects.")
    ] = None,
    scale: ScaleName = "small",
    seeds: Seeds = 3,
    k: PerClass = 32,
    split_seed: SplitSeed = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for the table and its cells.")] = Path("runs/ablation"),
    resume: Resume = False,
    recompute: Recompute = False,
    json: Json = False,
) -> None:
    """Is it the loss or the teacher's input that made the paper's regression fail? Both inputs x both losses.

    The right input is the teacher's own preprocessing, the wrong one RGB/255, which the paper's code fed it.

    \b
    Examples:
      kdedge paper ablation --teacher run:runs/teacher --data cifar10/ --raw
      kdedge paper ablation --teacher onnx:sface.onnx --teacher-mean 0,0,0 --teacher-std 1,1,1 --data faces/ \\
          --transfer unlabelled/ --out runs/ablation-faces
    """
    import json as js

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra
    from kdedge.cli.triple import triple

    need_train_extra()
    from kdedge.paper.ablation import ablate
    from kdedge.paper.material import gather
    from kdedge.paper.plan import paper_plan
    from kdedge.training.teachers import TeacherInput, build_teacher

    plan = paper_plan(scale, seeds)
    given = TeacherInput(
        None, triple(teacher_mean, "--teacher-mean"), triple(teacher_std, "--teacher-std"), teacher_color
    )
    taught = build_teacher(teacher, given=given, say=_say)
    images = gather(
        plan.scale,
        progress_bar,
        _say,
        data=data,
        manifest=manifest,
        transfer=transfer,
        teacher_given=True,
        k=k,
        split_seed=split_seed,
    )
    done = ablate(
        taught,
        images,
        plan.scale,
        student,
        plan.seeds,
        out,
        raw=raw,
        resume=resume,
        recompute=recompute,
        bars=progress_bar,
        say=_say,
    )
    if json:
        print(js.dumps(done))
        return
    print((out / "ablation.md").read_text(encoding="utf-8"))


def register(app: typer.Typer) -> None:
    """Add the commands to ``kdedge paper``."""
    app.command(short_help="Tables 1 to 6, the paper's numbers beside ours.")(tables)
    app.command(short_help="Draw the curves of finished tables again.")(figures)
    app.command(short_help="Teacher input right or wrong x MSE or BCE.")(ablation)
