"""Haystack's own pipelines around an index: what they give is what retgen finds; written to a file they come back."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("haystack", reason="haystack-ai is not installed (extra: integrations)")

import haystack
from haystack import Document

from retgen.errors import UsageError
from retgen.index import Index
from retgen.integrations.haystack import RetgenRanker, RetgenRetriever
from retgen.lexical import BM25
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.types import Query
from tests.rerank.classifiers import save_classifier
from tests.rerank.wordy import Brevity

QUESTION = "Which country has its capital in Paris?"


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny one with random weights, saved."""
    return str(save_classifier(tmp_path_factory.mktemp("models") / "cross-encoder"))


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


def test_what_is_retrieved_is_what_the_index_finds(index: Index, index_folder: Path) -> None:
    expected = index.search([Query("q", QUESTION)], 5)["q"]
    for source in (index, index_folder, BM25().over(index)):
        documents = RetgenRetriever(source, top_k=5).run(query=QUESTION)["documents"]
        assert ids(documents) == [hit.doc_id for hit in expected]
        assert [document.score for document in documents] == [hit.score for hit in expected]
        assert [document.content for document in documents] == [index.corpus[hit.doc_id].text for hit in expected]
        assert [document.meta["components"] for document in documents] == [dict(hit.components) for hit in expected]
    assert ids(RetgenRetriever(index).run(query=QUESTION, top_k=2)["documents"]) == [hit.doc_id for hit in expected[:2]]


def test_haystacks_own_filters(index: Index) -> None:
    def kinds(asked: dict[str, object] | None, own: dict[str, object] | None = None) -> set[object]:
        retriever = RetgenRetriever(index, top_k=30, filters=own)
        return {document.meta["kind"] for document in retriever.run(query=QUESTION, filters=asked)["documents"]}

    country = {"field": "meta.kind", "operator": "==", "value": "country"}
    both = {"operator": "OR", "conditions": [country, {"field": "meta.kind", "operator": "==", "value": "river"}]}
    assert len(kinds(None)) > 2
    assert kinds(country) == {"country"}
    assert kinds(both) == {"country", "river"}
    assert kinds(None, country) == {"country"}
    assert kinds(both, country) == {"country", "river"}
    assert kinds({"field": "meta.kind", "operator": "not in", "value": ["country", "river"]}).isdisjoint(
        {"country", "river"}
    )


def test_a_pipeline_of_both_written_and_read_again_gives_the_same(index_folder: Path, cross_encoder: str) -> None:
    pipeline = haystack.Pipeline()
    pipeline.add_component("retriever", RetgenRetriever(index_folder, top_k=10))
    pipeline.add_component("ranker", RetgenRanker(cross_encoder=cross_encoder, top_k=3, device="cpu"))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {"retriever": {"query": QUESTION}, "ranker": {"query": QUESTION}}
    documents = pipeline.run(asked)["ranker"]["documents"]

    index = Index.open(index_folder)
    model = CrossEncoder.from_pretrained(cross_encoder, device="cpu")
    expected = model.rerank([Query("q", QUESTION)], index.search([Query("q", QUESTION)], 10), index.corpus, 3)["q"]
    assert ids(documents) == [hit.doc_id for hit in expected]
    assert [document.score for document in documents] == pytest.approx([hit.score for hit in expected], abs=1e-4)
    assert set(documents[0].meta["components"]) == {"first_stage", "cross_encoder"}

    again = haystack.Pipeline.loads(pipeline.dumps(), allowed_modules=["retgen.integrations.haystack"])
    assert again.to_dict() == pipeline.to_dict()
    assert again.run(asked)["ranker"]["documents"] == documents


def test_a_retriever_with_its_own_models(index_folder: Path, cross_encoder: str) -> None:
    retriever = RetgenRetriever(index_folder, top_k=3, candidates=10, cross_encoder=cross_encoder, device="cpu")
    retriever.warm_up()
    found = retriever.run(query=QUESTION)["documents"]
    ranker = RetgenRanker(cross_encoder=cross_encoder, top_k=3, device="cpu")
    apart = ranker.run(
        query=QUESTION, documents=RetgenRetriever(index_folder, top_k=10).run(query=QUESTION)["documents"]
    )
    assert ids(found) == ids(apart["documents"])
    again = RetgenRetriever.from_dict(retriever.to_dict())
    assert again.to_dict() == retriever.to_dict()
    assert ids(again.run(query=QUESTION)["documents"]) == ids(found)


def test_the_ranker_leaves_what_it_was_given_as_it_was() -> None:
    given = [Document(content="Iron rusts in wet air.", score=0.25), Document(content="Gold melts.", score=0.5)]
    before = [document.to_dict() for document in given]
    ranked = RetgenRanker(Brevity()).run(query="gold", documents=given)["documents"]
    assert ids(ranked) == [given[1].id, given[0].id]
    assert ranked[0].meta["components"]["first_stage"] == 0.5
    assert [document.to_dict() for document in given] == before
    assert RetgenRanker(Brevity()).run(query="gold", documents=[])["documents"] == []


def test_failures_are_the_librarys_own_errors(index: Index) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        RetgenRetriever(BM25().over(index)).to_dict()
    with pytest.raises(UsageError, match="cannot be written"):
        RetgenRanker(Brevity()).to_dict()
    for wrong in ({}, {"reranker": Brevity(), "generator": "somewhere"}):
        with pytest.raises(UsageError, match="either a re-ranker or"):
            RetgenRanker(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no text"):
        RetgenRanker(Brevity()).run(query="gold", documents=[Document(id="d", meta={"a": 1})])
    country = {"field": "meta.kind", "operator": "==", "value": "country"}
    with pytest.raises(UsageError, match="takes no filter"):
        RetgenRetriever(BM25().over(index)).run(query="gold", filters=country)
