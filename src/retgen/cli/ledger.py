"""``retgen ledger``: what was paid for, whether it is whole, and how it moves from one machine to another."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.connect_options import PriceOf
from retgen.cli.options import AsJson
from retgen.cli.running import counted, messages, progress_bars, results, write_json
from retgen.errors import ArtefactError

app = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    help="The completions of language models that were paid for: sums, checks, export and import.",
)

LedgerFile = Annotated[
    Path, typer.Argument(help="The ledger, as retgen connect --ledger names it.", show_default=False, metavar="LEDGER")
]


@app.command("stats")
def stats(ledger: LedgerFile, as_json: AsJson = False) -> None:
    """Completions, tokens and money of each model.

    Example:

      retgen ledger stats retgen-ledger.sqlite
    """
    from retgen.llm.ledger import Ledger
    from retgen.llm.ledger_exchange import stats as sums_of

    with Ledger(ledger, create=False) as opened:
        found = sums_of(opened)
    for sums in found:
        if as_json:
            write_json({name: getattr(sums, name) for name in sums.__dataclass_fields__})
    if as_json:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "completions", "empty", "prompt tokens", "completion tokens", "money", "first", "last"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for sums in found:
        counts = (sums.completions, sums.empty, sums.prompt_tokens, sums.completion_tokens)
        table.add_row(sums.model, *(f"{n:,}" for n in counts), f"{sums.cost:.4g}", _day(sums.first), _day(sums.last))
    results().print(table if found else "The ledger is empty.")


@app.command("export")
def export(
    ledger: LedgerFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl to write.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write all completions as JSON lines: key, model, parameters, prompt, completion, tokens, cost, time.

    Example:

      retgen ledger export retgen-ledger.sqlite --out ledger.jsonl
    """
    from retgen.llm.ledger import Ledger
    from retgen.llm.ledger_exchange import export_jsonl

    with Ledger(ledger, create=False) as opened:
        written = export_jsonl(opened, out)
    if as_json:
        write_json({"out": str(out), "completions": written})
        return
    results().print(f"{out}: {counted(written, 'completion', 'completions')}", markup=False)


@app.command("import")
def import_(
    ledger: LedgerFile,
    file: Annotated[Path, typer.Argument(help="What retgen ledger export wrote.", show_default=False, metavar="FILE")],
    as_json: AsJson = False,
) -> None:
    """Take completions of an export over; a request that has one keeps it. Makes the ledger where there is none.

    Example:

      retgen ledger import retgen-ledger.sqlite ledger.jsonl
    """
    from retgen.llm.ledger import Ledger
    from retgen.llm.ledger_exchange import import_jsonl

    with Ledger(ledger) as opened:
        made = import_jsonl(opened, file)
    if as_json:
        write_json({"added": made.added, "known": made.known, "different": made.different})
        return
    differ = f", {made.different} of them with another text, which was left out" if made.different else ""
    results().print(f"{ledger}: {made.added} added, {made.known} there already{differ}", markup=False)


@app.command("verify")
def verify(ledger: LedgerFile, as_json: AsJson = False) -> None:
    """Read everything: SQLite's own check, every key against its request, every completion against its checksum.

    Example:

      retgen ledger verify retgen-ledger.sqlite
    """
    from retgen.llm.ledger import Ledger
    from retgen.llm.ledger_exchange import verify as faults_of

    with Ledger(ledger, create=False) as opened, progress_bars() as step:
        total = len(opened)
        faults = faults_of(opened, step("Check completions"))
    if as_json:
        write_json({"completions": total, "whole": not faults, "faults": faults})
    for fault in faults if not as_json else ():
        messages().print(fault, markup=False, highlight=False)
    if faults:
        raise ArtefactError(
            f"{counted(len(faults), 'fault', 'faults')} among {total} completions",
            where=ledger,
            mend="Export what is whole, import it into a new ledger, and run the work again for the rest",
        )
    if not as_json:
        results().print(f"{ledger}: whole, {counted(total, 'completion', 'completions')}", markup=False)


@app.command("collect")
def collect(
    ledger: LedgerFile,
    requests: Annotated[
        Path, typer.Argument(help="What retgen connect --batch-file wrote.", show_default=False, metavar="REQUESTS")
    ],
    answers: Annotated[
        Path,
        typer.Argument(help="What the provider's batch endpoint gave back.", show_default=False, metavar="ANSWERS"),
    ],
    price: PriceOf = None,
    as_json: AsJson = False,
) -> None:
    """Take the answers of a provider's batch endpoint; the same retgen connect then finds them here.

    Example:

      retgen ledger collect retgen-ledger.sqlite requests.jsonl answers.jsonl --price 0.075 0.30
    """
    from retgen.llm.batch_files import collect_batch
    from retgen.llm.ledger import Ledger
    from retgen.llm.limits import Price

    with Ledger(ledger) as opened:
        made = collect_batch(requests, answers, opened, price=None if price is None else Price(*price))
    if as_json:
        write_json({"added": made.added, "known": made.known, "failed": made.failed})
        return
    for key, why in made.failed.items():
        messages().print(f"{key}: {why}", markup=False, highlight=False)
    results().print(
        f"{ledger}: {made.added} added, {made.known} there already, {len(made.failed)} without an answer", markup=False
    )


def _day(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M")
