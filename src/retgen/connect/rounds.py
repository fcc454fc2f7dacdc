"""From one round of UniGen-Iter to the next: a writer makes better contexts of what was found and said."""

from __future__ import annotations

from collections.abc import Sequence

from retgen.connect.writer import Enhancer
from retgen.types import Answer, Document, DocumentSource, Query, Run


def enhanced(
    queries: Sequence[Query],
    run: Run,
    answers: Sequence[Answer],
    documents: DocumentSource,
    writer: Enhancer,
    *,
    feedback_documents: int,
    words: int,
    number: int,
) -> list[Query]:
    """The queries of a round with the connectors of the next.

    Args:
        queries: of the last round, with the connectors it read.
        run: that it found.
        answers: that it gave, one for every query.
        documents: texts of what was found.
        writer: its ``enhance`` writes.
        feedback_documents: how many of the found documents it is given.
        words: length asked of it.
        number: of the next round.

    Reference:
        UniGen, "Iterative Enhancement Strategy".
    """
    found = fed_back(queries, run, documents, feedback_documents)
    connectors = writer.enhance(queries, found, answers, words=words, round=number)
    return [query.with_connector(text) for query, text in zip(queries, connectors, strict=True)]


def fed_back(queries: Sequence[Query], run: Run, documents: DocumentSource, number: int) -> list[list[Document]]:
    """The first ``number`` documents that a round found for each query: what its writer is given."""
    return [[documents[doc_id] for doc_id in run.doc_ids(query.id)[:number]] for query in queries]
