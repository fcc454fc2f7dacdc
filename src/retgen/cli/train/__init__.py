"""``retgen train``: fit a model to a collection. Each model family is a command of its own, in a file of its own."""

from __future__ import annotations

import typer

from retgen.cli.running import CommandGroup
from retgen.cli.train.bi_encoder import bi_encoder
from retgen.cli.train.cross_encoder import cross_encoder
from retgen.cli.train.joint import joint
from retgen.cli.train.query_generator import query_generator
from retgen.cli.train.unigen import unigen

app = typer.Typer(
    name="train",
    help="Fit a model to a collection.",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command("unigen")(unigen)
app.command("query-generator")(query_generator)
app.command("cross-encoder")(cross_encoder)
app.command("bi-encoder")(bi_encoder)
app.command("joint")(joint)


@app.callback()
def _train() -> None:
    """Fit a model to a collection. Without labels too."""


__all__ = ["app"]
