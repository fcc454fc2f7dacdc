"""How what a re-ranker moved is shown: a table, or JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retgen.cli.running import results, write_json

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from retgen.rerank.moves import Move, Moves

_TOKENS_SHOWN = 4


def print_moves(moves: Moves, *, as_json: bool) -> None:
    """One query's moves on standard output."""
    if as_json:
        for move in moves.moves:
            write_json({"query_id": moves.query.id, "query": moves.query.text, **move.to_json()})
        return
    console = results()
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
    table.add_column("passage", overflow="fold", max_width=40)
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
    """The query's tokens as a table with a column each passage would be too wide: a row each, best passages first."""
    from rich.table import Table

    console = results()
    if not moves.tokens_are_the_query_s:
        console.print("\nWords that matter most, and what they add to the score:", markup=False)
        for move in moves.moves:
            told = sorted(move.tokens, key=lambda pair: -abs(pair[1]))[:_TOKENS_SHOWN]
            console.print(
                f"{move.after:>5}  " + "  ".join(f"{word} {value:+.3f}" for word, value in told), markup=False
            )
        return
    shown = [move for move in moves.moves if move.tokens]
    table = Table(box=None, pad_edge=False, title="Log-likelihood of the query's tokens, by the passage's new rank")
    table.title_justify = "left"
    table.add_column("token")
    for move in shown:
        table.add_column(str(move.after), justify="right")
    from rich.text import Text

    for place, (token, _) in enumerate(shown[0].tokens):
        row = [move.tokens[place][1] for move in shown]
        best = max(row)
        table.add_row(Text(token), *(Text(f"{value:.2f}", "bold" if value == best else "") for value in row))
    console.print()
    console.print(table)
