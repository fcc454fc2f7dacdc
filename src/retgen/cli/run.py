"""``retgen run``: a recipe in, its table out; stopped and started again, it goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.recipe_progress import recipe_progress
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
) -> None:
    """Run a recipe and print its table. What is finished is skipped; what was stopped goes on: run it again.

    Examples:

      retgen run almanac --scale tiny

      retgen run squad --data squad/ --rows bm25,unigen-base --seeds 3

      retgen run my-table.yaml --seed-list 3,4 --out runs/more-seeds
    """
    if seeds is not None and seed_list is not None:
        raise UsageError("give --seeds or --seed-list", mend="One of the two, not both")

    from retgen.recipes import load_recipe, make_report, run_recipe
    from retgen.recipes.provenance import command_line

    loaded = load_recipe(recipe, scale=scale)
    place = out or Path("runs") / f"{loaded.name}-{scale}"
    try:
        with recipe_progress(messages()) as listen:
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
