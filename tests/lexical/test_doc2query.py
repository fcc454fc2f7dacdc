"""Pseudo queries behind the documents: found by their words, and nothing else of the collection changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.corpus import Corpus
from retgen.errors import MismatchError
from retgen.evaluate import evaluate_run
from retgen.index import Index
from retgen.lexical import BM25
from retgen.lexical.doc2query import ExpandedDocuments, queries_by_document
from retgen.types import Document, Query, Triplet

DOCUMENTS = [
    Document("nile", "The river flows north through Egypt into the Mediterranean.", "Nile", {"kind": "water"}),
    Document("everest", "The summit in Nepal stands at 8849 metres.", "Everest", {"kind": "rock"}),
    Document("radium", "The metal glows blue and was isolated in 1910.", "Radium", {"kind": "metal"}),
    Document("mars", "Its day is a little longer than ours, and two moons pass over it.", "Mars", {"kind": "rock"}),
]
# What people ask, in words that the documents do not have.
PSEUDO = [
    Triplet(Query("nile::pq0", "which African stream is the longest"), (), ("nile",)),
    Triplet(Query("nile::pq1", "where does the longest stream end"), (), ("nile",)),
    Triplet(Query("everest::pq0", "what is the tallest mountain"), (), ("everest",)),
    Triplet(Query("radium::pq0", "which element did Marie Curie purify"), (), ("radium",)),
    Triplet(Query("mars::pq0", "which planet has Phobos and Deimos"), (), ("mars",)),
]
ASKED = {
    "longest": ("longest African stream", "nile"),
    "tallest": ("name the tallest mountain", "everest"),
    "curie": ("element purified by Curie", "radium"),
    "planet": ("the planet of Phobos", "mars"),
}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_documents(DOCUMENTS)


def test_expansion_finds_what_the_documents_words_do_not(corpus: Corpus) -> None:
    queries = [Query(name, text) for name, (text, _) in ASKED.items()]
    qrels = {name: {doc_id: 1} for name, (_, doc_id) in ASKED.items()}
    plain = evaluate_run(BM25.build(corpus).search(queries), qrels, ["RR@10"]).means["RR@10"]
    expanded = BM25.build(ExpandedDocuments(corpus, queries_by_document(PSEUDO, corpus)))
    found = expanded.search(queries)
    assert evaluate_run(found, qrels, ["RR@10"]).means["RR@10"] == 1.0 > plain
    # The hits are the corpus' documents: the run belongs to it.
    assert found.fingerprint == corpus.fingerprint


def test_without_pseudo_queries_it_is_plain_bm25(corpus: Corpus) -> None:
    queries = [Query("a", "river metal moons"), Query("b", "summit")]
    same = BM25.build(ExpandedDocuments(corpus, {})).search(queries)
    assert same.to_dict() == BM25.build(corpus).search(queries).to_dict()


def test_a_document_asked_for_is_the_document_itself(corpus: Corpus) -> None:
    expanded = ExpandedDocuments(corpus, queries_by_document(PSEUDO, corpus))
    assert expanded.at(0) == corpus.at(0)
    assert next(item.text.split("\n")[1:] for item in expanded) == [triplet.query.text for triplet in PSEUDO[:2]]
    run = BM25.build(expanded).search([Query("q", "tallest planet")], filter=lambda item: "Nepal" in item.text)
    assert run.doc_ids("q") == ["everest"]


def test_a_query_about_a_document_that_is_not_there_is_refused(corpus: Corpus) -> None:
    with pytest.raises(MismatchError, match="'moon'"):
        queries_by_document([Triplet(Query("x", "what?"), (), ("moon",))], corpus)


def test_an_index_has_it_beside_bm25(tmp_path: Path) -> None:
    Index.build(DOCUMENTS, tmp_path / "index", pseudo_queries=PSEUDO)
    index = Index.open(tmp_path / "index", verify=True)
    assert index.retrievers == ("bm25", "doct5query")
    asked = [Query("q", "tallest")]
    assert index.search(asked, retriever="doct5query").doc_ids("q") == ["everest"]
    assert index.search(asked).doc_ids("q") == []
    explained = index.retriever("doct5query").explain(asked[0], index["everest"])  # type: ignore[attr-defined]
    assert dict(explained.tokens).popitem()[1] == pytest.approx(
        index.search(asked, retriever="doct5query").scores("q")[0], rel=1e-5
    )
