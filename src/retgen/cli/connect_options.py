"""Options of commands that have a language model write, each with its help in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Language model"
"""Under which commands that do other things besides show these options."""

Model = Annotated[
    str | None,
    typer.Option(help="chat: the model's name at the endpoint; local: folder or hub id.", rich_help_panel=PANEL),
]
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        help="chat: e.g. http://localhost:8000/v1; OpenAI's by default.", metavar="URL", rich_help_panel=PANEL
    ),
]
KeyVariable = Annotated[
    str, typer.Option(help="chat: the environment variable that holds the key.", rich_help_panel=PANEL)
]
LedgerFile = Annotated[
    Path,
    typer.Option(
        help="Keeps every completion; give the same one again to go on.", envvar="RETGEN_LEDGER", rich_help_panel=PANEL
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(help="A .yaml of prompts in the place of the paper's.", metavar="FILE", rich_help_panel=PANEL),
]
Temperature = Annotated[float, typer.Option(help="0: the likeliest words.", min=0.0, rich_help_panel=PANEL)]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Of a completion; by default three a word, and a few to spare.", min=1, rich_help_panel=PANEL),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        help="chat: NAME=JSON, sent along; NAME=null leaves one out. Several times.",
        metavar="NAME=JSON",
        rich_help_panel=PANEL,
    ),
]
Concurrency = Annotated[int, typer.Option(help="chat: requests under way at a time.", min=1, rich_help_panel=PANEL)]
Timeout = Annotated[float, typer.Option(help="chat: seconds for one attempt.", min=0.1, rich_help_panel=PANEL)]
Attempts = Annotated[
    int,
    typer.Option(help="chat: attempts for one prompt, in each of two rounds.", min=1, rich_help_panel=PANEL),
]
RequestsPerMinute = Annotated[
    float | None, typer.Option(help="chat: a limit of the endpoint to keep.", rich_help_panel=PANEL)
]
TokensPerMinute = Annotated[float | None, typer.Option(help="chat: likewise.", rich_help_panel=PANEL)]
BudgetTokens = Annotated[
    int | None, typer.Option(help="chat: stop before so many tokens are spent.", rich_help_panel=PANEL)
]
BudgetMoney = Annotated[float | None, typer.Option(help="chat: likewise; needs --price.", rich_help_panel=PANEL)]
PriceOf = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="chat: of a million tokens of prompts, and of completions.",
        metavar="PROMPT COMPLETION",
        rich_help_panel=PANEL,
    ),
]
LEDGER = Path("retgen-ledger.sqlite")
KEY_VARIABLE = "OPENAI_API_KEY"
CONCURRENCY, TIMEOUT, ATTEMPTS = 16, 120.0, 8
