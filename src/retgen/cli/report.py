"""``retgen report``: results of one run or several in, the recipe's table out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.run import write_rows
from retgen.cli.running import messages
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.recipes.report import Format

_FORMATS = {"md": ".md", "latex": ".tex", "csv": ".csv", "html": ".html", "json": ".json"}


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders that retgen run wrote to.", show_default=False)
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="md, latex, csv, html or json [md, or as the file is called].")
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="Write the table here; may be given several times, once for each format.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Test the rows against this one [the recipe's].")] = None,
    differences: Annotated[
        bool,
        typer.Option(
            "--differences",
            help="Also show differences from the baseline, and between rows that the "
            "recipe contrasts, with their intervals.",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Write a page: tables, learning curves, rounds, questions compared, failures; one file, nothing from "
            "elsewhere.",
        ),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(help="With --html: compare questions by this one [the first that can].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row on standard output.")] = False,
) -> None:
    """Show a recipe's table: means and deviations over seeds, tests against the baseline.

    Several folders are merged, so that seeds may be run in different places. A row that lacks seeds says so.

    Examples:

      retgen report runs/squad-local

      retgen report seed0/ seed1/ seed2/ --out table.tex

      retgen report runs/squad-local --out table.md --out table.tex --out table.csv --out table.html

      retgen report runs/squad-local --html report.html
    """
    if measure is not None and html is None:
        raise UsageError("--measure is of the page", where="--measure", mend="Give --html FILE too")
    if html is not None and (form is not None or out or differences or as_json):
        raise UsageError("--html writes a page with all tables", where="--html", mend="Leave the other formats out")
    if as_json and (form is not None or out or differences):
        raise UsageError(
            "--json prints rows, not a table",
            where="--json",
            mend="Leave out --format, --out and --differences, or use --format json for the whole table as one object",
        )
    from retgen.recipes import load_results, make_report

    places = out or []
    forms = [chosen_format(form, place) for place in places] or [chosen_format(form, None)]
    merged = load_results(*folders)
    made = make_report(merged, baseline=baseline)
    if html is not None:
        from retgen.recipes.page import page
        from retgen.store import write_atomic

        write_atomic(html, page(merged, made, folders, measure=measure))
        messages().print(f"{html}: {len(made.rows)} rows", markup=False, highlight=False)
        return
    if as_json:
        write_rows(merged, made)
        return
    if differences and not made.comparisons and not made.contrasts and set(forms) != {"json"}:
        raise UsageError(
            "there is nothing to compare: no baseline, or no values per question beside the results",
            where="--differences",
            mend="Name a row with --baseline, and give folders that have per-question/",
        )
    texts = [
        made.render(chosen) + ("\n" + made.render_differences(chosen) if differences and chosen != "json" else "")
        for chosen in forms
    ]
    if not places:
        sys.stdout.write(texts[0])
        return
    from retgen.store import write_atomic

    for place, text in zip(places, texts, strict=True):
        write_atomic(place, text)
        messages().print(f"{place}: {len(made.rows)} rows", markup=False, highlight=False)


def chosen_format(form: str | None, out: Path | None) -> Format:
    """The format asked for, else the one the file's suffix names, else Markdown.

    Raises:
        UsageError: no such format.
    """
    if form is None:
        by_suffix = {suffix: name for name, suffix in _FORMATS.items()}
        form = "md" if out is None else by_suffix.get(out.suffix.lower(), out.suffix)
    match form:
        case "md" | "latex" | "csv" | "html" | "json":
            return form
    raise UsageError(f"no table format is called {form!r}", where="--format", mend=f"Use one of {', '.join(_FORMATS)}")
