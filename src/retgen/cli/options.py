"""Options that several commands take, each with its help in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CorpusOrIndex = Annotated[
    str,
    typer.Argument(
        help="An index that retgen index made, or documents in any form that it reads.",
        metavar="CORPUS_OR_INDEX",
        show_default=False,
    ),
]
ModelOut = Annotated[Path, typer.Option("--out", "-o", help="The model folder to make.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0)]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with what was stopped, or begin anew.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad records out, and say which.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a model that stands there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
