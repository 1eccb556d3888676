"""The commands, gathered. Their modules load nothing heavy before one of them runs."""

from typing import Annotated

import typer

from kdedge.cli import card, data, gallery, paper, teacher, train, train_meta
from kdedge.cli.bench import bench
from kdedge.cli.classify import classify
from kdedge.cli.distill import distill
from kdedge.cli.doctor import doctor
from kdedge.cli.enroll import enroll
from kdedge.cli.evaluate import evaluate
from kdedge.cli.export import export
from kdedge.cli.info import info
from kdedge.cli.quickstart import quickstart
from kdedge.cli.report import report
from kdedge.cli.serve import serve

__all__ = ["app"]

app = typer.Typer(
    name="kdedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # errors are one sentence, printed by kdedge.cli.main
    rich_markup_mode=None,  # examples keep their lines, and --help starts without rich
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kdedge import __version__

        print(f"kdedge {__version__}")
        raise typer.Exit


@app.callback()
def kdedge(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Distil a large image model into a small int8 ONNX classifier for the device.

    \b
    Start here:
      kdedge quickstart               the whole story on demo images, a few minutes
      kdedge distill --help           from a teacher and images to a student
      kdedge classify photo.jpg       what a student says about an image
    """


app.command()(quickstart)
app.add_typer(data.app, name="data")
app.add_typer(teacher.app, name="teacher")
app.command()(distill)
train_meta.register(train.app)
app.add_typer(train.app, name="train")
app.command()(export)
app.command()(classify)
app.command(short_help="Add a class to a model on the device, without training.")(enroll)
app.add_typer(gallery.app, name="gallery")
app.command(short_help="Say what a model file says about itself.")(info)
app.add_typer(card.app, name="card")
app.command(short_help="Score a model on labelled images.")(evaluate)
app.command(short_help="Time a student beside its teacher.")(bench)
app.command(short_help="Answer requests over HTTP, with a web page.")(serve)
app.command(short_help="What this machine can run, and what is wrong with it.")(doctor)
app.command(short_help="One HTML page about a run.")(report)
app.add_typer(paper.app, name="paper")
