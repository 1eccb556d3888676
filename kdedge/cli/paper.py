"""``kdedge paper``: the paper's experiments, its numbers beside those measured here."""

import typer

from kdedge.cli import paper_features, paper_tables

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The paper's experiments on images of one's own: tables, figures, ablation, features.",
)
paper_tables.register(app)
paper_features.register(app)
