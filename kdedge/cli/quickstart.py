"""``kdedge quickstart``."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["quickstart"]


def quickstart(
    seed: Annotated[int, typer.Option(help="Which crops are labelled, and every other random choice.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run directory [default: runs/quickstart, -2, -3 ...].")] = None,
    budget: Annotated[float, typer.Option(help="Minutes for everything; training gets what is left.")] = 5.5,
    student: Annotated[str, typer.Option(help="timm/NAME or torchvision/NAME.")] = "timm/efficientnet_lite0",
    student_weights: Annotated[str, typer.Option(help="auto, pretrained, random or a file.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print summary.json on stdout.")] = False,
) -> None:
    """The whole story on demo images, in a few minutes on a laptop CPU.

    Photographs of ten synthetic people become face crops; a small student learns them from a face-recognition teacher and
    16 labels a person, is exported as int8, checked, and timed beside ResNet-50.

    \b
    Examples:
      kdedge quickstart
      kdedge quickstart --seed 1 --student timm/resnet10t --budget 8 --out runs/resnet10t
    """
    import sys

    from kdedge.cli.progress import progress_bar
    from kdedge.cli.train_extra import need_train_extra

    need_train_extra()
    from kdedge.quickstart.finish import print_table, write_story_report
    from kdedge.quickstart.story import QuickstartConfig
    from kdedge.quickstart.story import quickstart as run_quickstart

    config = QuickstartConfig(out or _free(Path("runs/quickstart")), seed, budget, student, student_weights)
    story = run_quickstart(config, bars=progress_bar, say=lambda line: print(line, file=sys.stderr, flush=True))
    report = write_story_report(story)
    if json:
        print((story.run.path / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        print_table(story, report)


def _free(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3`` ... that is not there."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free
