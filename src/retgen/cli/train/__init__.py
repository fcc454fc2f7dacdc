"""``retgen train``: fit a model to a collection. Each model family is a command of its own, in a file of its own."""

from __future__ import annotations

import typer

from retgen.cli.running import CommandGroup
from retgen.cli.train.joint import joint
from retgen.cli.train.unigen import unigen

app = typer.Typer(
    name="train",
    help="Fit a model to a collection.",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command("unigen")(unigen)
app.command("joint")(joint)


@app.callback()
def _train() -> None:
    """Fit a model to a collection. Without labels too."""


__all__ = ["app"]
