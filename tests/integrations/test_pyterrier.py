"""PyTerrier's own operators around an index, on its frames, without Java."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("pyterrier", reason="pyterrier is not installed (extra: integrations)")

import pandas as pd
import pyterrier as pt
from pyterrier.testing import TransformerTestCase

from retgen import almanac
from retgen.errors import UnknownDocumentError, UsageError
from retgen.index import Index
from retgen.integrations.pyterrier import RetgenReranker, RetgenRetriever
from retgen.lexical import BM25
from retgen.types import Document, Query
from tests.rerank.wordy import Brevity

TOPICS = pd.DataFrame(
    [("q2", "Which country has its capital in Paris?"), ("q1", "planets and their moons"), ("q3", "?!")],
    columns=["qid", "query"],
)
QUERIES = [Query(qid, text) for qid, text in TOPICS.itertuples(index=False)]


@pytest.fixture(autouse=True)
def no_java() -> Iterator[None]:
    yield
    assert not pt.java.started()


def conforms(frame: pd.DataFrame) -> None:
    """The columns, types and ranks that PyTerrier's model of frames asks for."""
    pt.validate.result_frame(frame)
    assert frame["score"].dtype == "float64"
    assert frame["rank"].dtype == "int64"
    for _, rows in frame.groupby("qid", sort=False):
        assert rows["rank"].tolist() == list(range(len(rows)))
        assert rows["score"].is_monotonic_decreasing
        assert rows["docno"].is_unique


def test_frames_hold_what_the_index_finds(index: Index) -> None:
    before = TOPICS.copy()
    frame = RetgenRetriever(index, k=7)(TOPICS)
    conforms(frame)
    expected = index.search(QUERIES, 7)
    assert list(zip(frame["qid"], frame["docno"], frame["score"], frame["rank"], strict=True)) == [
        (query.id, hit.doc_id, hit.score, hit.rank - 1) for query in QUERIES for hit in expected[query.id]
    ]
    assert set(frame.columns) == {"qid", "query", "docno", "score", "rank"}
    pd.testing.assert_frame_equal(TOPICS, before)


def test_empty_frames_have_the_columns(index: Index) -> None:
    retriever, empty = RetgenRetriever(index, texts=True), TOPICS.iloc[:0]
    made = retriever(empty)
    assert len(made) == 0
    assert set(made.columns) == set(retriever(TOPICS).columns)
    assert made["rank"].dtype == "int64"
    reranked = RetgenReranker(Brevity())(made)
    assert set(reranked.columns) == set(made.columns)
    nothing = retriever(TOPICS[TOPICS["qid"] == "q3"])
    assert len(nothing) == 0


def test_columns_of_others_stay_and_old_scores_go(index: Index) -> None:
    topics = TOPICS.assign(topic="kept", score=-1.0, rank=9)
    frame = RetgenRetriever(index, k=3)(topics)
    conforms(frame)
    assert set(frame["topic"]) == {"kept"}
    assert -1.0 not in set(frame["score"])
    pd.testing.assert_frame_equal(frame.drop(columns="topic"), RetgenRetriever(index, k=3)(TOPICS))


def test_piped_it_is_the_rerankers_order(index: Index) -> None:
    expected = Brevity().rerank(QUERIES, index.search(QUERIES, 20), index.corpus)
    from_texts = (RetgenRetriever(index, k=20, texts=True) >> RetgenReranker(Brevity()))(TOPICS)
    from_index = (RetgenRetriever(index, k=20) >> RetgenReranker(Brevity(), index))(TOPICS)
    for frame in (from_texts, from_index):
        conforms(frame)
        assert list(zip(frame["qid"], frame["docno"], strict=True)) == [
            (query.id, hit.doc_id) for query in QUERIES for hit in expected[query.id]
        ]
    cut = (RetgenRetriever(index, k=20) % 4 >> RetgenReranker(Brevity(), index))(TOPICS)
    assert set(cut.groupby("qid").size()) == {4}


def test_its_other_operators_and_its_experiment(index: Index) -> None:
    bm25, reranked = RetgenRetriever(index, k=10), RetgenRetriever(index, k=10) >> RetgenReranker(Brevity(), index)
    both = (bm25 + reranked)(TOPICS)
    summed = {(qid, docno): score for qid, docno, score in zip(both["qid"], both["docno"], both["score"], strict=True)}
    apart = [
        {(q, d): s for q, d, s in zip(f["qid"], f["docno"], f["score"], strict=True)}
        for f in (bm25(TOPICS), reranked(TOPICS))
    ]
    assert summed == {key: pytest.approx(apart[0][key] + apart[1][key]) for key in apart[0]}
    asked = [question for question in almanac.questions("dev") if question.doc_id in index.corpus][:40]
    topics = pd.DataFrame([(question.id, question.text) for question in asked], columns=["qid", "query"])
    qrels = pd.DataFrame([(question.id, question.doc_id, 1) for question in asked], columns=["qid", "docno", "label"])
    table = pt.Experiment([bm25, reranked], topics, qrels, ["recip_rank"], names=["bm25", "brevity"])
    assert table["recip_rank"][0] > table["recip_rank"][1]


def test_what_is_wrong_is_named(index: Index) -> None:
    with pytest.raises(pt.validate.InputValidationError):
        RetgenRetriever(index)(pd.DataFrame([{"qid": "q"}]))
    with pytest.raises(pt.validate.InputValidationError):
        RetgenReranker(Brevity())(RetgenRetriever(index, k=3)(TOPICS))
    with pytest.raises(UsageError, match="occurs twice"):
        RetgenRetriever(index)(pd.concat([TOPICS, TOPICS]))
    found = RetgenRetriever(index, k=3)(TOPICS)
    with pytest.raises(UsageError, match=r"document .* twice"):
        RetgenReranker(Brevity(), index)(pd.concat([found, found]))
    with pytest.raises(UsageError, match="two queries"):
        RetgenReranker(Brevity(), index)(pd.concat([found, found.assign(query="another", docno="other")]))
    with pytest.raises(UnknownDocumentError):
        RetgenReranker(Brevity(), {"a": Document("a", "text")})(found)


class _OwnSuite(TransformerTestCase):
    """PyTerrier's own checks, without the drawing: that reads its web pages."""

    test_schematic = None


class TestRetrieverByPyTerriersOwnSuite(_OwnSuite):
    @staticmethod
    def get_transformer() -> pt.Transformer:
        return RetgenRetriever(BM25.build([Document("a", "Gold.")]).over({"a": Document("a", "Gold.")}))


class TestRerankerByPyTerriersOwnSuite(_OwnSuite):
    @staticmethod
    def get_transformer() -> pt.Transformer:
        return RetgenReranker(Brevity())


del _OwnSuite, TransformerTestCase
