"""``retgen pseudo-queries``: questions for documents that have none, with their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import documents_of
from retgen.cli.running import counted, progress_bars, results, skipping, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.types import Document, Triplet

_GENERATORS = ("offline",)


def pseudo_queries(
    corpus: Annotated[
        str,
        typer.Argument(
            help="An index that retgen index made, or documents in any form that it reads.",
            metavar="CORPUS_OR_INDEX",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl to write.", show_default=False)],
    generator: Annotated[
        str, typer.Option(help="offline: the documents' own statements, with a span taken out and asked for.")
    ] = "offline",
    number: Annotated[int, typer.Option("-n", help="Questions a document, at most.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the choice of spans and wordings.", min=0)] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad records out, and say which.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Make up questions for documents. The file holds questions, answers and document ids, as train --questions reads.

    Examples:

      retgen pseudo-queries docs/ --out questions.jsonl

      retgen pseudo-queries my-index -n 3 --out questions.jsonl --json
    """
    if generator not in _GENERATORS:
        raise UsageError(
            f"there is no generator {generator!r}", where="--generator", mend=f"There is: {', '.join(_GENERATORS)}"
        )

    from retgen.connect import pseudo_questions
    from retgen.formats.jsonl import write_triplets

    counts = {"documents": 0, "asked": 0, "questions": 0}

    def asked(documents: Iterable[Document]) -> Iterator[Triplet]:
        with progress_bars() as step:
            show = step("pseudo queries")
            for document in documents:
                made = pseudo_questions([document], number, seed)
                counts["documents"] += 1
                counts["asked"] += bool(made)
                counts["questions"] += len(made)
                show(counts["documents"], 0)
                yield from made
        if not counts["documents"]:
            raise RetgenError("there are no documents to ask about", where=corpus, mend="Check the input")

    with skipping(skip_bad) as skipped:
        write_triplets(out, asked(documents_of(corpus, skipped)))
    if as_json:
        write_json({"out": str(out), "generator": generator, "seed": seed, **counts})
        return
    results().print(
        f"{out}: {counted(counts['questions'], 'question', 'questions')} "
        f"about {counts['asked']} of {counted(counts['documents'], 'document', 'documents')}",
        markup=False,
    )
