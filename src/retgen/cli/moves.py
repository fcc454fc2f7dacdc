"""How what a re-ranker moved is shown: a table, or JSON lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from retgen.cli.running import results, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from retgen.rerank.moves import Move, Moves

_TOKENS_SHOWN = 4
_COLUMN = 8
_WIDE = 400  # of a table that goes to a file


def print_moves(moves: Moves, *, as_json: bool) -> None:
    """One query's moves on standard output."""
    if as_json:
        for move in moves.moves:
            write_json({"query_id": moves.query.id, "query": moves.query.text, **move.to_json()})
        return
    console = _console()
    console.print(f"[{moves.query.id}] {moves.query.text}", style="bold", markup=False)
    if not moves.moves:
        console.print("This query has no candidates.", markup=False)
        return
    weighed = ", ".join(f"{weight:g} × {name}" for name, weight in moves.weights.items())
    console.print(f"{moves.candidates} candidates by {weighed}", style="dim", markup=False)
    console.print(_table(moves))
    console.print(
        "Pull: how far the weighed score lies above the mean candidate's, in nats. "
        "Rank: where that score alone would put the passage.",
        style="dim",
        markup=False,
    )
    if any(move.tokens for move in moves.moves):
        _print_tokens(moves)


def _table(moves: Moves) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("after", "before", "moved"):
        table.add_column(heading, justify="right")
    table.add_column("passage", overflow="fold", min_width=24)
    for name in moves.weights:
        for heading in (name, "rank", "pull"):
            table.add_column(heading, justify="right")
    for move in moves.moves:
        cells: list[Text | str] = [str(move.after), str(move.before), _climb(move), Text(_named(move))]
        for name in moves.weights:
            pull = move.pulls[name]
            cells += [
                f"{move.scores[name]:.3f}",
                str(move.ranks[name]),
                Text(f"{pull:+.2f}", "green" if pull > 0 else "red"),
            ]
        table.add_row(*cells, end_section=move.after == moves.k)
    return table


def _climb(move: Move) -> Text:
    from rich.text import Text

    if move.climbed == 0:
        return Text("=", "dim")
    return Text(f"▲{move.climbed}", "green") if move.climbed > 0 else Text(f"▼{-move.climbed}", "red")


def _named(move: Move) -> str:
    return move.title if move.title == move.doc_id else f"{move.title} ({move.doc_id})"


def _print_tokens(moves: Moves) -> None:
    """The query's tokens, a row each, with a column for each passage that there is room for, best first."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    if not moves.tokens_are_the_query_s:
        console.print("\nWords that matter most, and what they add to the score:", markup=False)
        for move in moves.moves:
            told = sorted(move.tokens, key=lambda pair: -abs(pair[1]))[:_TOKENS_SHOWN]
            console.print(
                f"{move.after:>5}  " + "  ".join(f"{word} {value:+.3f}" for word, value in told), markup=False
            )
        return
    shown = [move for move in moves.moves if move.tokens]
    longest = max(len(token) for token, _ in shown[0].tokens)
    room = max(1, (console.width - longest) // _COLUMN)
    table = Table(box=None, pad_edge=False)
    table.add_column("token", no_wrap=True)
    for move in shown[:room]:
        table.add_column(str(move.after), justify="right", no_wrap=True)
    for place, (token, _) in enumerate(shown[0].tokens):
        row = [move.tokens[place][1] for move in shown[:room]]
        best = max(row)
        table.add_row(Text(token), *(Text(f"{value:.2f}", "bold" if value == best else "") for value in row))
    console.print("\nLog-likelihood of the query's tokens, by the passage's new rank:", markup=False)
    console.print(table)


def _console() -> Console:
    """Standard output; a table that goes elsewhere than to a terminal is as wide as need be."""
    from rich.console import Console

    return results() if sys.stdout.isatty() else Console(highlight=False, soft_wrap=True, width=_WIDE)
