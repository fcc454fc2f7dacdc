"""What every Retriever, Reranker and Answerer must do, whatever it computes. One suite, run for each of them.

Use from a test module::

    @pytest.mark.parametrize("check", RETRIEVER_CHECKS, ids=name_of)
    def test_conforms(check):
        check(BM25.build)

A retriever's ``make`` takes a list of documents; a reranker's and an answerer's takes nothing. Scores of models are
compared within ``tolerance``; word counts should pass 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest

from retgen.errors import UsageError
from retgen.types import Answer, Answerer, Document, Query, Reranker, Retriever, Run

MakeRetriever = Callable[[list[Document]], Retriever]
MakeReranker = Callable[[], Reranker]
MakeAnswerer = Callable[[], Answerer]

DOCUMENTS = [
    Document("oxygen", "Oxygen was discovered by Joseph Priestley in 1774. It is a gas.", "Oxygen", {"kind": "gas"}),
    Document("iron", "Iron is a metal that melts at 1538 degrees. It rusts in wet air.", "Iron", {"kind": "metal"}),
    Document("gold", "Gold is a heavy yellow metal which melts at 1064 degrees.", "Gold", {"kind": "metal"}),
    Document("everest", "Mount Everest is 8849 metres high and lies in Nepal.", "Mount Everest"),
    Document("empty", "", ""),
    Document("nile", "The Nile flows through Egypt into the Mediterranean Sea.", "Nile"),
    Document("umlaut", "Ænigma: naïve café crème brûlée, 東京 and Ελλάδα.", "Ünïcode"),
]
QUERIES = [
    Query("who", "Who discovered oxygen?"),
    Query("metal", "Which metal melts at 1064 degrees?"),
    Query("river", "Which sea does the Nile flow into?"),
    Query("height", "How high is Mount Everest?"),
    Query("nothing", "?!"),
    Query("long", "oxygen iron gold " * 60),
]
CORPUS = {document.id: document for document in DOCUMENTS}


def name_of(check: object) -> str:
    return getattr(check, "__name__", str(check))


def check_retriever(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    """Every retriever check, one after the other."""
    for check in RETRIEVER_CHECKS:
        check(make, tolerance=tolerance)


def check_reranker(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    """Every reranker check, one after the other."""
    for check in RERANKER_CHECKS:
        check(make, tolerance=tolerance)


def check_answerer(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    """Every answerer check, one after the other."""
    for check in ANSWERER_CHECKS:
        check(make, tolerance=tolerance)


# Retrievers


def retriever_is_one(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    assert isinstance(make(list(DOCUMENTS)), Retriever)


def retriever_takes_no_queries(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    assert len(make(list(DOCUMENTS)).search([], 5)) == 0


def retriever_returns_every_query(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    run = make(list(DOCUMENTS)).search(QUERIES, 3)
    assert run.query_ids == tuple(query.id for query in QUERIES)
    for query_id in run:
        assert len(run[query_id]) <= 3
        assert [hit.rank for hit in run[query_id]] == list(range(1, len(run[query_id]) + 1))
        assert {hit.doc_id for hit in run[query_id]} <= set(CORPUS)
        scores = [hit.score for hit in run[query_id]]
        assert scores == sorted(scores, reverse=True)


def retriever_finds_what_is_asked(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    run = make(list(DOCUMENTS)).search(QUERIES[:4], 2)
    assert "oxygen" in run.doc_ids("who")
    assert "everest" in run.doc_ids("height")


def retriever_takes_one_document(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    run = make(DOCUMENTS[:1]).search(QUERIES, 10)
    assert run.doc_ids("who") == ["oxygen"]
    assert all(len(run[query_id]) <= 1 for query_id in run)


def retriever_takes_k_beyond_the_corpus(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    retriever = make(list(DOCUMENTS))
    _assert_same(retriever.search(QUERIES, 10_000), retriever.search(QUERIES, len(DOCUMENTS)), tolerance)


def retriever_has_prefixes(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    retriever = make(list(DOCUMENTS))
    _assert_same(retriever.search(QUERIES, 5).top(2), retriever.search(QUERIES, 2), tolerance)


def retriever_refuses_repeated_query_ids(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    with pytest.raises(UsageError, match="twice"):
        make(list(DOCUMENTS)).search([QUERIES[0], QUERIES[0]], 5)


def retriever_refuses_k_below_one(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    with pytest.raises(UsageError, match="k"):
        make(list(DOCUMENTS)).search(QUERIES, 0)


def retriever_keeps_ties_in_corpus_order(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    copies = [Document(f"copy-{n}", DOCUMENTS[1].text, DOCUMENTS[1].title) for n in (3, 1, 2, 0)]
    run = make([DOCUMENTS[0], *copies]).search([Query("q", "iron melts")], 3)
    scores = run.scores("q")
    if scores[0] == scores[1] == scores[2]:
        assert run.doc_ids("q") == ["copy-3", "copy-1", "copy-2"]
    else:
        assert scores[0] - scores[2] <= tolerance, "equal documents have unequal scores"


def retriever_is_deterministic(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    retriever = make(list(DOCUMENTS))
    first = retriever.search(QUERIES, 5)
    _assert_same(first, retriever.search(QUERIES, 5), 0.0)
    _assert_same(first, make(list(DOCUMENTS)).search(QUERIES, 5), tolerance)


def retriever_ignores_query_order(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    retriever = make(list(DOCUMENTS))
    forward, backward = retriever.search(QUERIES, 5), retriever.search(QUERIES[::-1], 5)
    assert backward.query_ids == tuple(query.id for query in reversed(QUERIES))
    _assert_same(forward, backward.select(forward.query_ids), tolerance)


def retriever_ignores_batch_size(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    retriever = make(list(DOCUMENTS))
    single = Run.concat(retriever.search([query], 5) for query in QUERIES)
    _assert_same(retriever.search(QUERIES, 5), single, tolerance)


def retriever_changes_nothing_of_the_callers(make: MakeRetriever, *, tolerance: float = 0.0) -> None:
    documents, queries = list(DOCUMENTS), list(QUERIES)
    before = copy.deepcopy((documents, queries))
    make(documents).search(queries, 5)
    assert (documents, queries) == before


# Rerankers


def reranker_is_one(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    assert isinstance(make(), Reranker)


def reranker_takes_no_queries(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    assert len(make().rerank([], Run([], [], []), CORPUS)) == 0


def reranker_keeps_queries_and_documents(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    given = first_run()
    run = make().rerank(QUERIES, given, CORPUS)
    assert run.query_ids == given.query_ids
    assert run.fingerprint == given.fingerprint
    for query_id in given:
        assert set(run.doc_ids(query_id)) == set(given.doc_ids(query_id))
        scores = [hit.score for hit in run[query_id]]
        assert scores == sorted(scores, reverse=True)


def reranker_takes_one_document(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    run = make().rerank(QUERIES[:1], Run(["who"], [["iron"]], [[1.0]]), CORPUS)
    assert run.doc_ids("who") == ["iron"]


def reranker_cuts_at_k(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    reranker, given = make(), first_run()
    whole = reranker.rerank(QUERIES, given, CORPUS)
    _assert_same(whole.top(2), reranker.rerank(QUERIES, given, CORPUS, k=2), tolerance)
    _assert_same(whole, reranker.rerank(QUERIES, given, CORPUS, k=10_000), tolerance)


def reranker_refuses_repeated_query_ids(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    with pytest.raises(UsageError, match="twice"):
        make().rerank([QUERIES[0], QUERIES[0]], first_run(), CORPUS)


def reranker_keeps_ties_in_run_order(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    copies = {f"copy-{n}": Document(f"copy-{n}", DOCUMENTS[1].text, DOCUMENTS[1].title) for n in (3, 1, 2)}
    run = make().rerank([Query("q", "iron melts")], Run(["q"], [list(copies)], [[0.0] * 3], presorted=True), copies)
    scores = run.scores("q")
    if scores[0] == scores[1] == scores[2]:
        assert run.doc_ids("q") == list(copies)
    else:
        assert scores[0] - scores[2] <= tolerance, "equal documents have unequal scores"


def reranker_is_deterministic(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    reranker = make()
    _assert_same(reranker.rerank(QUERIES, first_run(), CORPUS), reranker.rerank(QUERIES, first_run(), CORPUS), 0.0)


def reranker_ignores_query_order(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    reranker, given = make(), first_run()
    forward = reranker.rerank(QUERIES, given, CORPUS)
    backward = reranker.rerank(QUERIES[::-1], given.select([query.id for query in reversed(QUERIES)]), CORPUS)
    _assert_same(forward, backward.select(forward.query_ids), tolerance)


def reranker_ignores_batch_size(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    reranker, given = make(), first_run()
    single = Run.concat(reranker.rerank([query], given.select([query.id]), CORPUS) for query in QUERIES)
    _assert_same(reranker.rerank(QUERIES, given, CORPUS), single, tolerance)


def reranker_changes_nothing_of_the_callers(make: MakeReranker, *, tolerance: float = 0.0) -> None:
    given, queries, corpus = first_run(), list(QUERIES), dict(CORPUS)
    before = copy.deepcopy((given.to_dict(), queries, corpus))
    make().rerank(queries, given, corpus)
    assert (given.to_dict(), queries, corpus) == before


# Answerers


def answerer_is_one(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    assert isinstance(make(), Answerer)


def answerer_takes_no_queries(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    assert make().answer([], Run([], [], []), CORPUS) == []


def answerer_answers_each_once_in_order(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    answers = make().answer(QUERIES, first_run(), CORPUS)
    assert [answer.query_id for answer in answers] == [query.id for query in QUERIES]


def answerer_shows_only_its_run(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    given = first_run()
    for answer in make().answer(QUERIES, given, CORPUS):
        assert set(answer.passages) <= set(given.doc_ids(answer.query_id))
        assert answer.source is None or answer.source in given.doc_ids(answer.query_id)


def answerer_takes_queries_without_hits(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    nothing: list[list[str]] = [[] for _ in QUERIES]
    run = Run([query.id for query in QUERIES], nothing, [[] for _ in QUERIES])
    answers = make().answer(QUERIES, run, CORPUS)
    assert len(answers) == len(QUERIES)
    assert all(answer.source is None and answer.passages == () for answer in answers)


def answerer_takes_an_empty_document(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    answers = make().answer(QUERIES[:1], Run(["who"], [["empty"]], [[1.0]]), CORPUS)
    assert len(answers) == 1


def answerer_refuses_repeated_query_ids(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    with pytest.raises(UsageError, match="twice"):
        make().answer([QUERIES[0], QUERIES[0]], first_run(), CORPUS)


def answerer_is_deterministic(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    answerer = make()
    _assert_same_answers(
        answerer.answer(QUERIES, first_run(), CORPUS), answerer.answer(QUERIES, first_run(), CORPUS), 0.0
    )


def answerer_ignores_query_order(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    answerer, given = make(), first_run()
    forward = answerer.answer(QUERIES, given, CORPUS)
    backward = answerer.answer(QUERIES[::-1], given, CORPUS)
    _assert_same_answers(forward, backward[::-1], tolerance)


def answerer_ignores_batch_size(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    answerer, given = make(), first_run()
    single = [answerer.answer([query], given.select([query.id]), CORPUS)[0] for query in QUERIES]
    _assert_same_answers(answerer.answer(QUERIES, given, CORPUS), single, tolerance)


def answerer_changes_nothing_of_the_callers(make: MakeAnswerer, *, tolerance: float = 0.0) -> None:
    given, queries, corpus = first_run(), list(QUERIES), dict(CORPUS)
    before = copy.deepcopy((given.to_dict(), queries, corpus))
    make().answer(queries, given, corpus)
    assert (given.to_dict(), queries, corpus) == before


def first_run() -> Run:
    """A run over the queries: lists of unequal length, one of them empty, with a component and a fingerprint."""
    doc_ids = [
        ["iron", "oxygen", "gold", "empty"],
        ["iron", "gold", "nile"],
        ["everest", "nile", "umlaut", "oxygen", "gold"],
        ["everest"],
        [],
        ["gold", "umlaut"],
    ]
    scores = [[float(len(ids) - n) for n in range(len(ids))] for ids in doc_ids]
    return Run(
        [query.id for query in QUERIES], doc_ids, scores, components={"first": scores}, fingerprint="conformance"
    )


def _assert_same(one: Run, other: Run, tolerance: float) -> None:
    """The same hits in the same order; documents whose scores lie within the tolerance may change places."""
    assert one.query_ids == other.query_ids
    for query_id in one:
        ours, theirs = one[query_id], other[query_id]
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            assert abs(mine.score - its.score) <= tolerance, (query_id, mine, its)
            if tolerance == 0.0 or not _has_neighbour(mine.score, [hit.score for hit in ours], tolerance):
                assert mine.doc_id == its.doc_id, (query_id, mine, its)


def _has_neighbour(score: float, scores: Sequence[float], tolerance: float) -> bool:
    return sum(abs(score - other) <= 2 * tolerance for other in scores) > 1


def _assert_same_answers(one: Sequence[Answer], other: Sequence[Answer], tolerance: float) -> None:
    assert len(one) == len(other)
    for mine, its in zip(one, other, strict=True):
        assert (mine.query_id, mine.text, mine.source) == (its.query_id, its.text, its.source)
        assert abs(mine.score - its.score) <= tolerance


RETRIEVER_CHECKS = [
    retriever_is_one,
    retriever_takes_no_queries,
    retriever_returns_every_query,
    retriever_finds_what_is_asked,
    retriever_takes_one_document,
    retriever_takes_k_beyond_the_corpus,
    retriever_has_prefixes,
    retriever_refuses_repeated_query_ids,
    retriever_refuses_k_below_one,
    retriever_keeps_ties_in_corpus_order,
    retriever_is_deterministic,
    retriever_ignores_query_order,
    retriever_ignores_batch_size,
    retriever_changes_nothing_of_the_callers,
]
RERANKER_CHECKS = [
    reranker_is_one,
    reranker_takes_no_queries,
    reranker_keeps_queries_and_documents,
    reranker_takes_one_document,
    reranker_cuts_at_k,
    reranker_refuses_repeated_query_ids,
    reranker_keeps_ties_in_run_order,
    reranker_is_deterministic,
    reranker_ignores_query_order,
    reranker_ignores_batch_size,
    reranker_changes_nothing_of_the_callers,
]
ANSWERER_CHECKS = [
    answerer_is_one,
    answerer_takes_no_queries,
    answerer_answers_each_once_in_order,
    answerer_shows_only_its_run,
    answerer_takes_queries_without_hits,
    answerer_takes_an_empty_document,
    answerer_refuses_repeated_query_ids,
    answerer_is_deterministic,
    answerer_ignores_query_order,
    answerer_ignores_batch_size,
    answerer_changes_nothing_of_the_callers,
]
