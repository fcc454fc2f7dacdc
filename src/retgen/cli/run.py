"""``retgen run``: a recipe in, its table out; stopped and started again, it goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli import connect_options as options
from retgen.cli.connect_writers import ChatOptions, WriterOptions
from retgen.cli.recipe_progress import recipe_progress
from retgen.cli.run_writer import LEDGER, RecipeWriter
from retgen.cli.running import messages, write_json
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.recipes import Report, Results

INTERRUPTED = 130


def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's YAML file, or the name of a built-in one.", show_default=False)
    ],
    data: Annotated[Path | None, typer.Option(help="The folder of data, where the recipe needs one.")] = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows, with commas between.", metavar="A,B")] = None,
    seeds: Annotated[int | None, typer.Option(help="So many seeds, from 0 on [the recipe's].", min=1)] = None,
    seed_list: Annotated[
        str | None, typer.Option("--seed-list", help="These seeds instead, e.g. 3,4.", metavar="A,B")
    ] = None,
    scale: Annotated[str, typer.Option(help="tiny, local, gpu or full, where the recipe has it.")] = "local",
    out: Annotated[Path | None, typer.Option(help="Where everything goes [runs/<recipe>-<scale>].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row on standard output.")] = False,
    writer: Annotated[
        str,
        typer.Option(
            help="offline; or chat (an endpoint) or local (a model in this process): adds the rows whose connectors it "
            "writes, where the recipe has such.",
            rich_help_panel=options.PANEL,
        ),
    ] = "offline",
    model: options.Model = None,
    endpoint: options.EndpointUrl = None,
    key_variable: options.KeyVariable = options.KEY_VARIABLE,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Keeps every completion, for all runs that are given it [ledger.sqlite in --out].",
            envvar="RETGEN_LEDGER",
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    prompts: options.Prompts = None,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = None,
    parameter: options.Parameters = None,
    concurrency: options.Concurrency = options.CONCURRENCY,
    timeout: options.Timeout = options.TIMEOUT,
    attempts: options.Attempts = options.ATTEMPTS,
    requests_per_minute: options.RequestsPerMinute = None,
    tokens_per_minute: options.TokensPerMinute = None,
    budget_tokens: options.BudgetTokens = None,
    budget_money: options.BudgetMoney = None,
    price: options.PriceOf = None,
    device: Annotated[
        str, typer.Option(help="local: auto, cpu, cuda, cuda:1, mps.", rich_help_panel=options.PANEL)
    ] = "auto",
) -> None:
    """Run a recipe and print its table. What is finished is skipped; what was stopped goes on: run it again.

    With --writer a language model writes connectors; each prompt is paid once, whatever stops the run.

    Examples:

      retgen run almanac --scale tiny

      retgen run squad --data squad/ --rows bm25,unigen-base --seeds 3

      retgen run my-table.yaml --seed-list 3,4 --out runs/more-seeds

      retgen run squad --data squad/ --writer chat --endpoint http://localhost:8000/v1 --model Qwen/Qwen3-8B
    """
    if seeds is not None and seed_list is not None:
        raise UsageError("give --seeds or --seed-list", mend="One of the two, not both")

    from retgen.recipes import load_recipe, make_report, run_recipe
    from retgen.recipes.provenance import command_line

    chat = ChatOptions(
        endpoint=endpoint,
        key_variable=key_variable,
        concurrency=concurrency,
        timeout=timeout,
        attempts=attempts,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget_tokens=budget_tokens,
        budget_money=budget_money,
        price=price,
        parameters=tuple(parameter or ()),
    )
    chosen = WriterOptions(writer, model, ledger or LEDGER, prompts, temperature, 0, max_tokens, device, chat)
    written = RecipeWriter(chosen)
    loaded = load_recipe(recipe, scale=scale, author=written.author())
    place = out or Path("runs") / f"{loaded.name}-{scale}"
    if ledger is None:
        written.options = replace(chosen, ledger=place / LEDGER)
    try:
        with recipe_progress(messages()) as listen, written.opened():
            results = run_recipe(
                loaded,
                data,
                place,
                rows=None if rows is None else [name.strip() for name in rows.split(",") if name.strip()],
                seeds=list(range(seeds)) if seeds is not None else parse_seeds(seed_list),
                progress=listen,
                command=command_line(["retgen", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is finished is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    report = make_report(results)
    if as_json:
        write_rows(results, report)
        return
    sys.stdout.write(report.render("md"))
    typer.echo(f"Results: {place / 'results'}; the table again: retgen report {place}", err=True)


def parse_seeds(text: str | None) -> list[int] | None:
    """Seeds from ``"0,1,2"``; None stays None.

    Raises:
        UsageError: something else.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"seeds are whole numbers with commas between, got {text!r}", where="--seed-list") from None


def write_rows(results: Results, report: Report) -> None:
    """One JSON object a row, on standard output."""
    for name, row in report.rows.items():
        write_json(
            {
                "recipe": results.definition.name,
                "scale": results.definition.scale,
                "row": name,
                "seeds": list(row.seeds),
                "values": dict(row.values),
                "std": dict(row.std),
                "intervals": {key: [found.low, found.high] for key, found in row.intervals.items()},
                "against": report.against.get(name),
                "p": {key: rows[name].p_adjusted for key, rows in report.comparisons.items() if name in rows},
            }
        )
