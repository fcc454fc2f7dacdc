"""LlamaIndex' own classes over an index: what they give is what retgen finds, in order, with scores and texts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed (extra: integrations)")

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from retgen.almanac import AlmanacQuestion
from retgen.answer import BestSpan
from retgen.errors import UsageError
from retgen.index import Index
from retgen.integrations.llama_index import RetgenReranker, RetgenRetriever
from retgen.lexical import BM25
from retgen.types import Query
from tests.rerank.wordy import Brevity

QUESTION = "Which country has its capital in Paris?"


def ids(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.node_id for node in nodes]


def test_what_is_retrieved_is_what_the_index_finds(index: Index, index_folder: Path) -> None:
    expected = index.search([Query("q", QUESTION)], 5)["q"]
    for source in (index, index_folder, BM25().over(index)):
        retriever: BaseRetriever = RetgenRetriever(source, k=5)
        nodes = retriever.retrieve(QUESTION)
        assert ids(nodes) == [hit.doc_id for hit in expected]
        assert [node.score for node in nodes] == [hit.score for hit in expected]
        assert [node.text for node in nodes] == [index.corpus[hit.doc_id].text for hit in expected]
        assert [node.metadata["components"] for node in nodes] == [dict(hit.components) for hit in expected]
        assert asyncio.run(retriever.aretrieve(QueryBundle(QUESTION))) == nodes


def test_models_are_shown_the_passages_own_metadata_alone(index: Index) -> None:
    (node,) = RetgenRetriever(index, k=1).retrieve(QUESTION)
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        shown = node.node.get_content(mode)
        assert f"title: {node.metadata['title']}" in shown
        assert not any(name in shown for name in ("score", "rank", "components"))


def test_a_filter_and_an_answerer(index: Index, asked: AlmanacQuestion) -> None:
    found = RetgenRetriever(index, k=10, filter={"kind": "country"}).retrieve(QUESTION)
    assert {node.metadata["kind"] for node in found} == {"country"}
    answered = RetgenRetriever((BM25() >> BestSpan(3)).over(index), k=3).retrieve(asked.text)
    (cited,) = [node for node in answered if "citation" in node.metadata]
    citation = cited.metadata["citation"]
    assert cited.text[citation["start"] : citation["end"]] == citation["answer"]


def test_the_postprocessor_orders_as_the_reranker_does(index: Index) -> None:
    nodes = RetgenRetriever(index, k=20).retrieve(QUESTION)
    before = [node.model_copy(deep=True) for node in nodes]
    expected = Brevity().rerank([Query("q", QUESTION)], index.search([Query("q", QUESTION)], 20), index.corpus)["q"]
    reranker = RetgenReranker(reranker=Brevity(), top_n=4)
    kept = reranker.postprocess_nodes(nodes, query_str=QUESTION)
    assert ids(kept) == [hit.doc_id for hit in expected[:4]]
    assert [node.score for node in kept] == [hit.score for hit in expected[:4]]
    assert [node.metadata["components"]["first_stage"] for node in kept] == [
        hit.components["bm25"] for hit in expected[:4]
    ]
    assert nodes == before
    assert asyncio.run(reranker.apostprocess_nodes(nodes, QueryBundle(QUESTION))) == kept


def test_scores_of_a_node_of_others_stay_hidden_from_models() -> None:
    node = NodeWithScore(node=TextNode(text="Gold melts.", metadata={"shelf": 3}))
    (made,) = RetgenReranker(reranker=Brevity()).postprocess_nodes([node], query_str="gold")
    assert made.node.get_content(MetadataMode.LLM) == "shelf: 3\n\nGold melts."
    assert made.metadata["components"] == {"brevity": made.score}
    assert RetgenReranker(reranker=Brevity()).postprocess_nodes([], query_str="gold") == []


def test_in_a_query_engine_the_nodes_come_out_reranked(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_index.core import Settings
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import ResponseMode

    # LlamaIndex' own stand-in for a language model: without one the engine asks for a hosted one, and here none writes.
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    retriever, reranker = RetgenRetriever(index, k=10), RetgenReranker(reranker=Brevity(), top_n=2)
    engine = RetrieverQueryEngine.from_args(
        retriever, response_mode=ResponseMode.NO_TEXT, node_postprocessors=[reranker]
    )
    expected = reranker.postprocess_nodes(retriever.retrieve(QUESTION), query_str=QUESTION)
    assert ids(engine.query(QUESTION).source_nodes) == ids(expected)


def test_failures_are_the_librarys_own_errors(index: Index) -> None:
    with pytest.raises(UsageError, match="there is none"):
        RetgenReranker(reranker=Brevity()).postprocess_nodes([NodeWithScore(node=TextNode(text="a"))])
    with pytest.raises(UsageError, match="no method rerank"):
        RetgenReranker(reranker=object())
    with pytest.raises(UsageError, match="at least 1"):
        RetgenRetriever(index, k=0)
