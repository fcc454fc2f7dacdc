"""Every Retriever and Answerer of the base install passes the shared suite, and the suite catches those who do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from retgen.answer import BestSpan
from retgen.lexical import BM25
from retgen.types import Document, DocumentSource, Query, Run
from tests.conformance import (
    ANSWERER_CHECKS,
    RERANKER_CHECKS,
    RETRIEVER_CHECKS,
    check_answerer,
    check_reranker,
    check_retriever,
    name_of,
)


@pytest.mark.parametrize("check", RETRIEVER_CHECKS, ids=name_of)
def test_bm25_conforms(check: Callable[..., None]) -> None:
    check(BM25.build)


@pytest.mark.parametrize("check", RETRIEVER_CHECKS, ids=name_of)
def test_bm25_over_fields_conforms(check: Callable[..., None]) -> None:
    check(lambda documents: BM25.build(documents, fields={"title": 0.5, "text": 1.0}))


@pytest.mark.parametrize("check", ANSWERER_CHECKS, ids=name_of)
def test_best_span_conforms(check: Callable[..., None]) -> None:
    check(BestSpan)


class ByOldScore:
    """A well-behaved reranker: the run's order turned round, ties as they stood."""

    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        ids = [query.id for query in queries]
        turned = Run(
            ids,
            [run.doc_ids(query_id) for query_id in ids],
            [-run.scores(query_id) for query_id in ids],
            fingerprint=run.fingerprint,
        )
        return turned if k is None else turned.top(k)


@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_a_plain_reranker_conforms(check: Callable[..., None]) -> None:
    check(ByOldScore)


class DropsSilentQueries:
    def __init__(self, documents: list[Document]) -> None:
        self.bm25 = BM25.build(documents)

    def search(self, queries: Sequence[Query], k: int = 100) -> Run:
        run = self.bm25.search(queries, k)
        return run.select(query_id for query_id in run if run[query_id])


class DropsDocuments(ByOldScore):
    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        return super().rerank(queries, run, documents, k=1)


class AnswersOnce(BestSpan):
    def answer(self, queries, run, documents):  # type: ignore[no-untyped-def]
        return super().answer(queries, run, documents)[:1]


def test_the_suite_catches_what_breaks_the_contract() -> None:
    with pytest.raises(AssertionError):
        check_retriever(DropsSilentQueries)
    with pytest.raises(AssertionError):
        check_reranker(DropsDocuments)
    with pytest.raises(AssertionError):
        check_answerer(AnswersOnce)
