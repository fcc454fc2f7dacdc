"""What is known of queries, for the commands that average over them: of all of them, or of a file's alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.formats import Skipped

Known = TypeVar("Known")

OnlyQueries = Annotated[
    str | None,
    typer.Option(
        "--queries",
        help="Average over these alone, where more are judged: BEIR queries.jsonl, a .tsv, a SQuAD .json.",
        metavar="FILE",
        show_default=False,
    ),
]


def asked_among(judged: Mapping[str, Known], queries: str | None, skipped: Skipped | None) -> Mapping[str, Known]:
    """What is known of the queries in a file (judgements, accepted answers); all of it without a file.

    Raises:
        UsageError: none of the file's queries is judged.
    """
    if queries is None:
        return judged
    from retgen.formats import read_queries

    wanted = {query.id for query in read_queries(queries, skipped=skipped)}
    found = {query_id: known for query_id, known in judged.items() if query_id in wanted}
    if not found:
        raise UsageError(
            "none of these queries is judged",
            where=queries,
            mend="Give --queries the questions that were asked, and --qrels or --gold what is known of them",
        )
    return found


def say_left_out(*, without_hits: int, unjudged: int) -> None:
    """Say on standard error how many queries count 0 or not at all, if there are any."""
    if without_hits or unjudged:
        typer.echo(
            f"judged queries without a hit, which count 0: {without_hits}; "
            f"queries of the run without judgements, left out: {unjudged}",
            err=True,
        )
