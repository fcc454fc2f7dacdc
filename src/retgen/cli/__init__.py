"""The command line, ``retgen``: each file here holds one command, thin: parse, call, print.

To add a command: write ``cli/<name>.py`` with a function, and add its line to the list below.
Modules here import nothing heavy at their top, so that ``retgen --help`` is instant.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from retgen import __version__
from retgen.cli.ask import ask
from retgen.cli.connect import connect
from retgen.cli.curves import curves
from retgen.cli.demo import demo
from retgen.cli.documents import add, remove
from retgen.cli.evaluate import evaluate
from retgen.cli.fuse import fuse
from retgen.cli.index import index
from retgen.cli.ledger import app as ledger
from retgen.cli.mcp import mcp
from retgen.cli.pseudo_queries import pseudo_queries
from retgen.cli.report import report
from retgen.cli.rerank import rerank
from retgen.cli.run import run
from retgen.cli.running import CommandGroup, set_up_logging
from retgen.cli.search import search
from retgen.cli.serve import serve
from retgen.cli.train import app as train
from retgen.cli.tune import tune
from retgen.cli.verify import verify

app = typer.Typer(
    name="retgen",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo)
app.command("index")(index)
app.command("search")(search)
app.command("rerank")(rerank)
app.command("ask")(ask)
app.command("tune")(tune)
app.command("fuse")(fuse)
app.command("eval")(evaluate)
app.add_typer(train, name="train")
app.command("connect")(connect)
app.add_typer(ledger, name="ledger")
app.command("pseudo-queries")(pseudo_queries)
app.command("run")(run)
app.command("report")(report)
app.command("add")(add)
app.command("remove")(remove)
app.command("mcp")(mcp)
app.command("curves")(curves)
app.command("serve")(serve)
app.command("verify")(verify)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"retgen {__version__}")
        raise typer.Exit


@app.callback()
def retgen(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_show_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, on standard error.")] = False,
) -> None:
    """Retrieval and generation that help each other: from your documents to ranked passages and grounded answers.

    The first minute, without any training:

      retgen index docs/ --out my-index
      retgen ask my-index "who discovered oxygen?"

    Then a model of your own, with or without labels, and whether it is better:

      retgen train unigen my-index --out my-model
      retgen ask my-index "who discovered oxygen?" --model my-model

    Results go to standard output, everything else to standard error; with --json each result is one JSON object.
    Exit status: 0 done, 1 a failure that is named, 2 wrong usage, 130 interrupted.
    """
    set_up_logging(verbose)


def main() -> None:
    """Entry point of the ``retgen`` command."""
    app(args=sys.argv[1:], prog_name="retgen")


__all__ = ["app", "main"]
