"""What commands that train share before they begin: the extra they need, the usual source, the questions of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retgen.cli.running import skipping
from retgen.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from retgen.types import Triplet


def check_extra() -> None:
    """Refuse to begin without what trainings run on.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train")


def usual_source() -> str:
    """The source of weights where none is named: the packaged MiniLM where it is installed, else random weights."""
    from retgen.models.sources import PACKAGED, WARM, packaged_encoder

    try:
        packaged_encoder()
    except MissingExtraError:
        return "scratch:mini"
    return WARM + PACKAGED


def triplets_of(questions: str | None, qrels: str | None = None, *, skip_bad: bool) -> list[Triplet] | None:
    """The questions of a file with their answers and documents; None for no file.

    Args:
        questions: a file of triplets; with ``qrels``, of any queries.
        qrels: judgements; a grade of 1 or more is relevant. Queries without a relevant document are left out.
        skip_bad: leave bad records out, and say which.

    Raises:
        UsageError: judgements without questions.
    """
    if questions is None:
        if qrels is not None:
            raise UsageError("judgements without questions", where="--qrels", mend="Give the queries with --questions")
        return None
    from retgen.formats import read_qrels, read_queries, read_triplets
    from retgen.types import Triplet

    with skipping(skip_bad) as skipped:
        if qrels is None:
            return list(read_triplets(questions, skipped=skipped))
        judged = read_qrels(qrels, skipped=skipped)
        relevant = {query: tuple(name for name, grade in row.items() if grade >= 1) for query, row in judged.items()}
        return [
            Triplet(query, (), relevant[query.id])
            for query in read_queries(questions, skipped=skipped)
            if relevant.get(query.id)
        ]
