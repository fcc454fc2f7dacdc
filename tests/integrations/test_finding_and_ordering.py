"""What the adapters share: passages as the index and the pipeline find them, texts as the re-ranker orders them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retgen.almanac import AlmanacQuestion
from retgen.answer import BestSpan
from retgen.errors import ArtefactError, UsageError
from retgen.index import Index
from retgen.integrations.finding import Finder, citations
from retgen.integrations.ordering import Orderer, WordsInCommon, open_reranker
from retgen.lexical import BM25
from retgen.types import Answer, Document, DocumentSource, Query, Run
from tests.conformance import RERANKER_CHECKS, name_of
from tests.rerank.wordy import Brevity

QUESTION = "Which country has its capital in Paris?"


def test_an_index_its_path_and_a_pipeline_find_the_same(index: Index, index_folder: Path) -> None:
    sources = (index, index_folder, str(index_folder), BM25().over(index))
    expected = index.search([Query("q", QUESTION)], 5)["q"]
    for source in sources:
        found = Finder(source, k=5).find(QUESTION)
        assert tuple(passage.hit for passage in found.passages) == expected
        assert [passage.document for passage in found.passages] == [index.corpus[hit.doc_id] for hit in expected]
        assert found.answer is None


def test_rerankers_see_more_than_is_given(index: Index) -> None:
    """The shortest of a hundred passages is not the shortest of three."""
    first = Finder(index, k=3, then=[Brevity()]).find(QUESTION)
    hundred = index.search([Query("q", QUESTION)], 100)
    expected = Brevity().rerank([Query("q", QUESTION)], hundred, index.corpus, 3)["q"]
    assert tuple(passage.hit for passage in first.passages) == expected
    assert set(first.passages[0].metadata["components"]) == {"bm25", "brevity"}  # type: ignore[call-overload]
    piped = Finder((BM25() >> Brevity()).over(index), k=3).find(QUESTION)
    assert piped == first
    few = Finder(index, k=3, then=[Brevity()], candidates=3).find(QUESTION)
    assert {each.document.id for each in few.passages} == set(hundred.top(3).doc_ids("q"))


def test_a_filter_keeps_what_it_says(index: Index) -> None:
    finder = Finder(index, k=20, then=[Brevity()])
    for keep in ({"kind": "country"}, lambda document: document.metadata["kind"] == "country"):
        kinds = {passage.document.metadata["kind"] for passage in finder.find(QUESTION, filter=keep).passages}
        assert kinds == {"country"}
    with pytest.raises(UsageError, match="takes no filter"):
        Finder(BM25().over(index)).find(QUESTION, filter={"kind": "country"})


def test_the_cited_passage_says_where_the_answer_stands(index: Index, asked: AlmanacQuestion) -> None:
    found = Finder(index, k=3, then=[BestSpan(3)], candidates=10).find(asked.text)
    assert found.answer is not None
    assert found.answer.text
    (cited,) = [passage for passage in found.passages if passage.citation is not None]
    citation = cited.metadata["citation"]
    assert isinstance(citation, dict)
    assert cited.document.text[citation["start"] : citation["end"]] == citation["answer"] == found.answer.text
    assert cited.document.id == found.answer.source


def test_citations_of_every_kind_of_answer() -> None:
    assert citations(Answer("q", "gold")) == []
    (read,) = citations(Answer("q", "gold", source="a"))
    assert (read.doc_id, read.start) == ("a", None)
    rows = [{"doc_id": "a", "share": 0.75, "start": 3, "end": 7}, {"doc_id": "b", "share": 0.25}]
    assert [
        (each.doc_id, each.share) for each in citations(Answer("q", "gold", source="a", details={"citations": rows}))
    ] == [
        ("a", 0.75),
        ("b", 0.25),
    ]


def test_metadata_are_json_and_what_the_search_says_stands_above_the_documents_own(tmp_path: Path) -> None:
    Index.build([Document("a", "Gold is yellow.", "Gold", {"score": "ours", "shelf": 3})], tmp_path / "index")
    (passage,) = Finder(tmp_path / "index").find("gold").passages
    assert json.loads(json.dumps(passage.metadata, allow_nan=False))["shelf"] == 3
    assert passage.metadata["score"] == passage.hit.score
    assert passage.metadata["title"] == "Gold"


def test_many_questions_are_the_questions_one_by_one(index: Index) -> None:
    finder = Finder(index, k=4, then=[Brevity()])
    texts = [QUESTION, "planets and moons", "?!", "who painted it"]
    assert finder.find_all(texts) == [finder.find(text) for text in texts]
    assert finder.find_all([]) == []
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(finder.find, texts * 3)) == finder.find_all(texts) * 3


def test_what_cannot_be_searched_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in dict"):
        Finder({"a": 1})  # type: ignore[arg-type]
    with pytest.raises(ArtefactError, match="no such folder"):
        Finder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="own retriever"):
        Finder(BM25().over(index), retriever="bm25")
    with pytest.raises(UsageError, match="no retriever 'dense'"):
        Finder(index, retriever="dense")
    for wrong in ({"k": 0}, {"candidates": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            Finder(index, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1"):
        Finder(index).find("gold", 0)


DOCUMENTS = [
    Document("", "Iron rusts in wet air and is a metal.", "Iron"),
    Document("", "Gold is a metal.", "Gold"),
    Document("", "Gold is a metal.", "Gold"),
    Document("", "", ""),
]


def test_texts_are_ordered_as_the_reranker_orders_documents() -> None:
    placed = Orderer(Brevity()).order("which metal?", DOCUMENTS)
    assert [each.number for each in placed] == [3, 1, 2, 0]
    assert [each.rank for each in placed] == [1, 2, 3, 4]
    assert [each.score for each in placed] == sorted((each.score for each in placed), reverse=True)
    assert placed[1].score == placed[2].score
    assert Orderer(Brevity()).order("which metal?", DOCUMENTS, 2) == placed[:2]
    assert Orderer(Brevity()).order("which metal?", []) == []


def test_scores_ride_along_where_all_have_one() -> None:
    orderer = Orderer(Brevity())
    scored = orderer.order("which metal?", DOCUMENTS, scores=[0.5, 0.0, -2.0, 4.0])
    assert [each.components["first_stage"] for each in scored] == [4.0, 0.0, -2.0, 0.5]
    for scores in (None, [0.5, None, 1.0, 2.0]):
        unscored = orderer.order("which metal?", DOCUMENTS, scores=scores)
        assert [each.number for each in unscored] == [each.number for each in scored]
        assert all(set(each.components) == {"brevity"} for each in unscored)


def test_the_given_scores_do_not_change_ties() -> None:
    class Same:
        def rerank(self, queries: list[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
            ids = run.doc_ids("q1")
            return Run(["q1"], [ids], [np.zeros(len(ids))])

    for scores in (None, [1.0, 2.0, 3.0, 4.0]):
        assert [each.number for each in Orderer(Same()).order("?", DOCUMENTS, scores=scores)] == [0, 1, 2, 3]


@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_words_in_common_conform(check: object) -> None:
    check(WordsInCommon)  # type: ignore[operator]


def test_words_in_common_finds_the_text_that_shares_the_rare_word() -> None:
    placed = Orderer(WordsInCommon()).order("which metal rusts?", DOCUMENTS)
    assert placed[0].number == 0
    assert placed[-1].score == 0.0


def test_a_reranker_is_named_by_its_models() -> None:
    with pytest.raises(UsageError, match="needs a model"):
        open_reranker()
    with pytest.raises(UsageError, match="no method rerank"):
        Orderer(object())
    with pytest.raises(UsageError, match="0"):
        Orderer(Brevity()).order("?", DOCUMENTS, 0)
