"""Pipelines: the order of parts is checked, blocks add up to the whole, foreign runs are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from retgen.answer import BestSpan
from retgen.corpus import Corpus
from retgen.errors import MismatchError, UsageError
from retgen.lexical import BM25
from retgen.pipeline import Chain, Component, Pipeline
from retgen.types import Answer, Document, DocumentSource, Explanation, Query, Run
from tests.conformance import CORPUS, DOCUMENTS, QUERIES

QUESTIONS = [query.text for query in QUERIES]


class Backwards(Component):
    """Turns a run round."""

    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        return Run(
            run.query_ids,
            [run.doc_ids(query_id) for query_id in run],
            [-run.scores(query_id) for query_id in run],
            fingerprint=run.fingerprint,
        ).top(k or 1000)


class ClosedBook(Component):
    """Answers without documents."""

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        return [Answer(query.id, "unknown" if run is None else f"{len(run[query.id])} hits") for query in queries]


class OnePass(Component):
    """Retrieves and answers; counts which way it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def search(self, queries: Sequence[Query], k: int = 100) -> Run:
        self.calls.append("search")
        return Run([query.id for query in queries], [["oxygen"] for _ in queries], [[0.0] for _ in queries])

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        self.calls.append("answer")
        return [Answer(query.id, "gas") for query in queries]

    def search_and_answer(self, queries: Sequence[Query], k: int = 100) -> tuple[Run, list[Answer]]:
        self.calls.append("both")
        return Run([query.id for query in queries], [["iron"] for _ in queries], [[0.0] for _ in queries]), [
            Answer(query.id, "metal") for query in queries
        ]


def test_retriever_reranker_answerer() -> None:
    pipeline = (BM25() >> Backwards() >> BestSpan()).over(CORPUS)
    run, answers = pipeline(QUERIES, k=3)
    plain = BM25.build(DOCUMENTS).search(QUERIES, 3)
    assert run.query_ids == plain.query_ids
    for query_id in plain:
        assert sorted(run.doc_ids(query_id)) == sorted(plain.doc_ids(query_id))
    assert [answer.query_id for answer in answers] == [query.id for query in QUERIES]


@pytest.mark.parametrize("block_size", [1, 2, 5, 100])
def test_blocks_add_up_to_the_whole(block_size: int) -> None:
    pipeline = (BM25() >> BestSpan()).over(CORPUS)
    whole = pipeline(QUERIES)
    blocks = list(pipeline.stream(QUERIES, block_size=block_size))
    assert Run.concat(block.run for block in blocks).to_dict() == whole.run.to_dict()
    assert [answer for block in blocks for answer in block.answers] == whole.answers
    assert max(len(block.run) for block in blocks) <= block_size


def test_blocks_are_made_as_they_are_asked_for() -> None:
    seen: list[tuple[int, int]] = []
    stream = (
        BM25.build(DOCUMENTS)
        .over(CORPUS)
        .stream(QUERIES, block_size=2, progress=lambda done, total: seen.append((done, total)))
    )
    next(stream)
    assert seen == []
    next(stream)
    assert seen == [(2, 6)]


def test_strings_become_queries() -> None:
    run, answers = BM25.build(DOCUMENTS).over(CORPUS)(["who discovered oxygen?", "iron"])
    assert run.query_ids == ("q1", "q2")
    assert run.doc_ids("q1")[0] == "oxygen"
    assert answers == []
    with pytest.raises(UsageError, match="one string"):
        BM25.build(DOCUMENTS).over(CORPUS)("who?")


def test_no_queries_no_results() -> None:
    run, answers = (BM25() >> BestSpan()).over(CORPUS)([])
    assert (len(run), answers) == (0, [])


def test_composition_is_associative() -> None:
    a, b, c = BM25(), Backwards(), BestSpan()
    assert ((a >> b) >> c).parts == (a >> (b >> c)).parts == (a, b, c)
    assert repr(a >> b >> c) == "BM25 >> Backwards >> BestSpan"


def test_a_closed_book_answerer_needs_no_retriever() -> None:
    run, answers = ClosedBook().over(CORPUS)(["who?"])
    assert answers == [Answer("q1", "unknown")]
    assert run["q1"] == ()


def test_a_model_of_both_kinds_is_asked_once_where_it_stands_alone() -> None:
    model = OnePass()
    run, answers = model.over(CORPUS)(["who?"])
    assert (run.doc_ids("q1"), answers[0].text, model.calls) == (["iron"], "metal", ["both"])


def test_a_model_of_both_kinds_does_what_its_place_asks() -> None:
    first = OnePass()
    run, _ = (first >> BestSpan()).over(CORPUS)(["who discovered oxygen?"])
    assert (run.doc_ids("q1"), first.calls) == (["oxygen"], ["search"])
    last = OnePass()
    _, answers = (BM25() >> last).over(CORPUS)(["who discovered oxygen?"])
    assert (answers[0].text, last.calls) == ("gas", ["answer"])


def test_a_given_run_takes_the_retrievers_place() -> None:
    given = Run(["q1"], [["iron", "gold"]], [[2.0, 1.0]])
    run, _ = Backwards().over(CORPUS)(["metals"], run=given)
    assert run.doc_ids("q1") == ["gold", "iron"]
    run, _ = (BM25() >> Backwards()).over(CORPUS)(["oxygen"], run=given)
    assert run.doc_ids("q1") == ["gold", "iron"]
    with pytest.raises(UsageError, match="lacks 1 of the 2"):
        Backwards().over(CORPUS)(["metals", "gases"], run=given)


def test_a_run_of_another_corpus_is_refused() -> None:
    corpus = Corpus.from_documents(DOCUMENTS)
    with pytest.raises(MismatchError, match="another corpus"):
        Backwards().over(corpus)(["metals"], run=Run(["q1"], [["iron"]], [[1.0]], fingerprint="0" * 64))
    other = BM25.build(Corpus.from_documents(DOCUMENTS[:3]))
    with pytest.raises(MismatchError, match="another corpus"):
        other.over(corpus)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((), "at least one"),
        ((BestSpan(), BM25()), "part 1 .*BestSpan.* an answerer.* a retriever or a reranker is expected"),
        ((BM25(), BM25()), "part 2 .*BM25.* a retriever.* a reranker or an answerer is expected"),
        ((BM25(), BestSpan(), Backwards()), "part 2 .*BestSpan.* an answerer.* a reranker is expected"),
        ((BM25(), "reranker"), "str has none of search, rerank and answer"),
    ],
)
def test_misplaced_parts_are_named(parts: tuple[object, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Pipeline(parts, CORPUS)


def test_a_reranker_alone_asks_for_a_run() -> None:
    with pytest.raises(UsageError, match="Backwards orders the documents of a run"):
        Backwards().over(CORPUS)(["who?"])


def test_repeated_ids_and_bad_sizes_are_refused() -> None:
    pipeline = BM25.build(DOCUMENTS).over(CORPUS)
    with pytest.raises(UsageError, match="'who' occurs twice"):
        pipeline([QUERIES[0], QUERIES[1], QUERIES[0]], block_size=1)
    for wrong in ({"k": 0}, {"block_size": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            pipeline(QUERIES, **wrong)


def test_explanations_come_from_the_parts_that_offer_them() -> None:
    explained = (BM25() >> Backwards()).over(CORPUS).explain("who discovered oxygen?", "oxygen")
    assert [type(each) for each in explained] == [Explanation]
    assert dict(explained[0].tokens)["oxygen"] > 0


def test_an_unbuilt_bm25_is_built_over_what_it_is_given() -> None:
    corpus = Corpus.from_documents(DOCUMENTS)
    pipeline = BM25(k1=1.5).over(corpus)
    assert pipeline(["oxygen"]).run.fingerprint == corpus.fingerprint
    assert isinstance(pipeline.parts[0], BM25)
    assert pipeline.parts[0].settings.k1 == 1.5

    class OnlyById:
        def __getitem__(self, doc_id: str) -> Document:
            raise KeyError(doc_id)

    with pytest.raises(UsageError, match="OnlyById, which does not list"):
        BM25().over(OnlyById())


def test_a_chain_can_be_kept_and_bound_twice() -> None:
    chain = BM25() >> BestSpan()
    assert isinstance(chain, Chain)
    one = chain.over({"oxygen": CORPUS["oxygen"]})(["oxygen iron"]).run
    two = chain.over({"iron": CORPUS["iron"]})(["oxygen iron"]).run
    assert (one.doc_ids("q1"), two.doc_ids("q1")) == (["oxygen"], ["iron"])
