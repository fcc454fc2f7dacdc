"""LangChain's own classes over an index: what they give is what retgen finds, in order, with scores and texts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed (extra: integrations)")

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from retgen.almanac import AlmanacQuestion
from retgen.answer import BestSpan
from retgen.errors import UsageError
from retgen.index import Index
from retgen.integrations.langchain import RetgenCompressor, RetgenRetriever
from retgen.lexical import BM25
from retgen.types import Query
from tests.rerank.wordy import Brevity, WordOverlap

QUESTION = "Which country has its capital in Paris?"


def ids(documents: Any) -> list[str]:
    return [document.id for document in documents]


def test_what_is_retrieved_is_what_the_index_finds(index: Index) -> None:
    retriever: BaseRetriever = RetgenRetriever(source=index, k=5)
    expected = index.search([Query("q", QUESTION)], 5)["q"]
    documents = retriever.invoke(QUESTION)
    assert ids(documents) == [hit.doc_id for hit in expected]
    for document, hit in zip(documents, expected, strict=True):
        own = index.corpus[hit.doc_id]
        assert document.page_content == own.text
        assert document.metadata == {
            "kind": own.metadata["kind"], "doc_id": own.id, "title": own.title,
            "rank": hit.rank, "score": hit.score, "components": dict(hit.components),
        }  # fmt: skip


def test_every_way_to_call_it_gives_the_same(index_folder: Path) -> None:
    retriever = RetgenRetriever(source=str(index_folder), k=3)
    expected = retriever.invoke(QUESTION)
    assert asyncio.run(retriever.ainvoke(QUESTION)) == expected
    assert retriever.batch([QUESTION, "planets"])[0] == expected
    assert ids(retriever.invoke(QUESTION, k=1)) == ids(expected)[:1]
    chain = RunnableLambda(lambda given: given["question"]) | retriever | ids
    assert chain.invoke({"question": QUESTION}) == ids(expected)


def test_filters_of_the_retriever_and_of_a_call(index: Index) -> None:
    retriever = RetgenRetriever(source=index, k=10, filter={"kind": "country"})
    assert {document.metadata["kind"] for document in retriever.invoke(QUESTION)} == {"country"}
    other = retriever.invoke("a wide river", filter={"kind": "river"})
    assert {document.metadata["kind"] for document in other} == {"river"}


def test_a_pipeline_with_an_answerer_cites(index: Index, asked: AlmanacQuestion) -> None:
    retriever = RetgenRetriever(source=(BM25() >> BestSpan(3)).over(index), k=3)
    cited = [document for document in retriever.invoke(asked.text) if "citation" in document.metadata]
    (document,) = cited
    citation = document.metadata["citation"]
    assert document.page_content[citation["start"] : citation["end"]] == citation["answer"]


def test_callbacks_are_told_of_documents(index: Index) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    heard: list[Document] = []

    class Listener(BaseCallbackHandler):
        def on_retriever_end(self, documents: Any, **_: Any) -> None:
            heard.extend(documents)

    found = RetgenRetriever(source=index).invoke(QUESTION, config={"callbacks": [Listener()]})
    assert heard == found


def test_a_failure_is_the_librarys_own_error(index: Index) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        RetgenRetriever(source=index, k=0)
    with pytest.raises(UsageError, match="no retriever 'dense'"):
        RetgenRetriever(source=index, retriever="dense")
    with pytest.raises(UsageError, match="no method rerank"):
        RetgenCompressor(reranker=object())


def test_the_compressor_orders_as_the_reranker_does(index: Index) -> None:
    documents = RetgenRetriever(source=index, k=20).invoke(QUESTION)
    before = [document.model_copy(deep=True) for document in documents]
    reranker = Brevity()
    expected = reranker.rerank([Query("q", QUESTION)], index.search([Query("q", QUESTION)], 20), index.corpus)["q"]
    compressor = RetgenCompressor(reranker=reranker, top_n=4)
    kept = compressor.compress_documents(documents, QUESTION)
    assert ids(kept) == [hit.doc_id for hit in expected[:4]]
    for document, hit in zip(kept, expected, strict=False):
        assert document.metadata["score"] == hit.score
        assert document.metadata["rank"] == hit.rank
        assert document.metadata["components"] == {"first_stage": hit.components["bm25"], "brevity": hit.score}
    assert documents == before
    assert asyncio.run(compressor.acompress_documents(documents, QUESTION)) == kept


def test_the_compressor_reads_the_title_and_keeps_documents_that_are_equal() -> None:
    same = [Document(page_content="It melts.", metadata={"title": title}) for title in ("", "Gold", "Gold")]
    titled = RetgenCompressor(reranker=WordOverlap()).compress_documents(same, "gold")
    assert [document.metadata["title"] for document in titled] == ["Gold", "Gold", ""]
    plain = RetgenCompressor(reranker=WordOverlap(), title_field=None).compress_documents(same, "gold")
    assert [document.metadata["title"] for document in plain] == ["", "Gold", "Gold"]
    assert list(RetgenCompressor(reranker=WordOverlap()).compress_documents([], "gold")) == []
