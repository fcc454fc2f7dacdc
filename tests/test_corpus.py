"""A corpus gives back what went in, by id and by number, from any process; a run over chunks comes home."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen import store
from retgen.corpus import Corpus
from retgen.errors import ArtefactError, MismatchError, RecordError, RetgenError, UnknownDocumentError, UsageError
from retgen.formats import read_corpus
from retgen.types import Document, Run

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=8)
METADATA = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2), max_size=2
)
DOCUMENTS = st.lists(
    st.builds(Document, IDS, TEXT, TEXT, METADATA), min_size=1, max_size=12, unique_by=lambda item: item.id
)

TEA = Document("tea", "Tea is hot and brown and very good", "Tea", {"year": 2001})
ICE = Document("ice", "Ice is cold", "Ice", {"year": 1999})
SNOW = Document("snow::0", "", "Snow")


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS)
def test_what_went_in_comes_out(documents: list[Document]) -> None:
    corpus = Corpus.from_documents(documents)
    assert list(corpus) == documents
    assert len(corpus) == len(documents)
    assert list(corpus.ids) == [item.id for item in documents]
    for number, item in enumerate(documents):
        assert corpus[item.id] == item == corpus.at(number)
        assert corpus.number(item.id) == number
        assert item.id in corpus
        assert corpus.ids[number] == item.id


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, st.integers(1, 5), st.data())
def test_chunks_are_stretches_of_their_documents(documents: list[Document], size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    chunks = Corpus.from_documents(documents, chunk_words=size, chunk_overlap=overlap)
    originals = {item.id: item for item in documents}
    covered: dict[str, set[int]] = {item.id: set() for item in documents}
    for chunk in chunks:
        home, start, end = (chunk.metadata[name] for name in ("document", "start", "end"))
        assert isinstance(home, str)
        assert isinstance(start, int)
        assert isinstance(end, int)
        original = originals[home]
        assert chunks.document_id(chunk.id) == home
        assert (chunk.text, chunk.title) == (original.text[start:end], original.title)
        assert len(chunk.text.split()) <= size
        assert {k: v for k, v in chunk.metadata.items() if k not in ("document", "start", "end")} == {
            k: v for k, v in original.metadata.items() if k not in ("document", "start", "end")
        }
        covered[home].update(range(start, end))
    for item in documents:
        assert {place for place, mark in enumerate(item.text) if not mark.isspace()} <= covered[item.id]
    assert chunks.source_fingerprint == Corpus.from_documents(documents).fingerprint


def test_the_fingerprint_is_of_ids_contents_and_order() -> None:
    def of(*documents: Document) -> str:
        return Corpus.from_documents(documents).fingerprint

    base = of(TEA, ICE)
    assert base == of(TEA, ICE)
    others = [
        of(ICE, TEA),
        of(TEA),
        of(TEA, ICE, SNOW),
        of(Document("tea2", TEA.text, TEA.title), ICE),
        of(Document("tea", TEA.text + "!", TEA.title), ICE),
        of(Document("tea", TEA.text, TEA.title + "!"), ICE),
        of(Document("tea", TEA.title, TEA.text), ICE),
    ]
    assert len({base, *others}) == len(others) + 1
    assert Corpus.from_documents([TEA, ICE], chunk_words=3).fingerprint != base


def test_an_unknown_id_is_named(tmp_path: Path) -> None:
    corpus = Corpus.build([TEA, ICE], tmp_path / "corpus")
    for wanted in ("nowhere", "", "te", "tea ", "\ud800"):
        assert wanted not in corpus
        with pytest.raises(UnknownDocumentError) as caught:
            corpus[wanted]
        assert caught.value.doc_id == wanted
    assert 5 not in corpus
    for number in (-1, 2):
        with pytest.raises(IndexError):
            corpus.at(number)
    assert corpus.ids[-1] == "ice"
    assert corpus.ids[0:5] == ["tea", "ice"]


def test_select_keeps_what_a_filter_keeps() -> None:
    corpus = Corpus.from_documents([TEA, ICE, SNOW])
    found = corpus.select(lambda item: bool(item.metadata.get("year", 0)))
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1]
    assert corpus.select(lambda item: False).tolist() == []


def test_two_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hash of one bit nearly every id collides."""
    monkeypatch.setattr("retgen.corpus.build.hash_of", lambda doc_id: len(doc_id) % 2)
    monkeypatch.setattr("retgen.corpus.corpus.hash_of", lambda doc_id: len(doc_id) % 2)
    documents = [Document("x" * n, f"text {n}") for n in range(1, 40)]
    corpus = Corpus.from_documents(documents)
    assert all(corpus[item.id] == item for item in documents)
    assert "y" * 3 not in corpus
    with pytest.raises(RecordError, match="'xxx' occurs a second time"):
        Corpus.from_documents([*documents, documents[2]])


@pytest.mark.parametrize("chunk_words", [None, 2])
def test_an_id_that_occurs_twice_is_named(tmp_path: Path, chunk_words: int | None) -> None:
    with pytest.raises(RecordError, match="'tea' occurs a second time"):
        Corpus.build([TEA, ICE, TEA], tmp_path / "corpus", chunk_words=chunk_words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("documents", [[], iter(())])
def test_a_corpus_of_nothing_is_refused(tmp_path: Path, documents: list[Document]) -> None:
    with pytest.raises(RetgenError, match="no documents"):
        Corpus.build(documents, tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (Document("", "x"), "id"),
        (Document("a\nb", "x"), "id"),
        (Document("a", "x\ud800"), "text"),
        (Document("a", "x", "\0"), "title"),
        (Document("a", "x", metadata={"k": Path()}), "metadata"),
        (Document("a", "x", metadata={"k": float("nan")}), "metadata"),
        (Document("a", "x", metadata={"k": "\ud800"}), "metadata"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path: Path, document: Document, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        Corpus.build([TEA, document], tmp_path / "corpus")
    assert (caught.value.line, caught.value.field) == (2, field)
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_cannot_be_cut_are_refused_before_any_document_is_read(tmp_path: Path) -> None:
    def never() -> Iterator[Document]:
        raise AssertionError("read")
        yield TEA

    for words, overlap in ((0, 0), (3, 3), (None, 2)):
        with pytest.raises(UsageError):
            Corpus.build(never(), tmp_path / "corpus", chunk_words=words, chunk_overlap=overlap)


def test_a_document_without_words_stays_findable() -> None:
    corpus = Corpus.from_documents([TEA, SNOW], chunk_words=100)
    assert list(corpus.ids) == ["tea::0", "snow::0::0"]
    assert corpus["snow::0::0"].title == "Snow"
    assert corpus.document_id("snow::0::0") == "snow::0"


def test_a_run_over_chunks_comes_home() -> None:
    chunks = Corpus.from_documents([TEA, ICE], chunk_words=3, chunk_overlap=1)
    run = Run(
        ["q", "none"],
        [["tea::0", "tea::2", "ice::0", "tea::1"], []],
        [[1.0, 5.0, 2.0, 3.0], []],
        components={"bm25": [[10.0, 50.0, 20.0, 30.0], []]},
        fingerprint=chunks.fingerprint,
    )
    found = chunks.aggregate(run)
    assert found.to_dict() == {"q": {"tea": 5.0, "ice": 2.0}, "none": {}}
    assert [hit.components["bm25"] for hit in found["q"]] == [50.0, 20.0]
    assert found.fingerprint == Corpus.from_documents([TEA, ICE]).fingerprint
    with pytest.raises(MismatchError):
        chunks.aggregate(Run(["q"], [["tea::0"]], [[1.0]], fingerprint="another"))
    with pytest.raises(UnknownDocumentError):
        chunks.aggregate(Run(["q"], [["tea"]], [[1.0]]))


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.integers(0, 2), st.floats(-5, 5), max_size=3), st.dictionaries(st.just(0), st.floats(-5, 5)))
def test_aggregate_takes_the_highest_score(tea: dict[int, float], ice: dict[int, float]) -> None:
    chunks = _CHUNKS
    scores = {f"tea::{n}": s for n, s in tea.items()} | {f"ice::{n}": s for n, s in ice.items()}
    expected = {name: max(row.values()) for name, row in (("tea", tea), ("ice", ice)) if row}
    found = chunks.aggregate(Run.from_dict({"q": scores}))
    assert found.to_dict()["q"] == expected
    assert list(found.scores("q")) == sorted(expected.values(), reverse=True)


_CHUNKS = Corpus.from_documents([TEA, ICE], chunk_words=3, chunk_overlap=0)


def test_a_run_over_whole_documents_stays_as_it_is() -> None:
    run = Run.from_dict({"q": {"tea": 1.0}})
    assert Corpus.from_documents([TEA]).aggregate(run) is run


def test_it_travels_to_other_processes_and_threads(tmp_path: Path) -> None:
    corpus = Corpus.build([TEA, ICE], tmp_path / "corpus")
    assert list(pickle.loads(pickle.dumps(corpus))) == [TEA, ICE]
    script = "import sys\nfrom retgen.corpus import Corpus\nprint(Corpus.open(sys.argv[1])['ice'].text)\n"
    done = subprocess.run([sys.executable, "-c", script, str(corpus.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "Ice is cold\n"
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda name: corpus[name].title, ["tea", "ice"] * 50)) == {"Tea", "Ice"}


def test_a_temporary_corpus_goes_when_it_is_no_longer_needed() -> None:
    corpus = Corpus.from_documents([TEA])
    path = corpus.path
    assert path.is_dir()
    del corpus
    gc.collect()
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["documents.arrow", "hashes.npy", "numbers.npy", "starts.npy", "corpus.json"])
def test_a_torn_corpus_is_refused(tmp_path: Path, name: str) -> None:
    path = Corpus.build([TEA, ICE], tmp_path / "corpus").path
    good = (path / name).read_bytes()
    (path / name).write_bytes(good[:-3])
    with pytest.raises(ArtefactError):
        Corpus.open(path)
    (path / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="changed"):
        Corpus.open(path, verify=True)


def test_another_kind_of_folder_is_refused(tmp_path: Path) -> None:
    with store.create(tmp_path / "model", kind="model") as staging:
        (staging / "x").write_text("x")
    with pytest.raises(ArtefactError, match="holds a model, not a corpus"):
        Corpus.open(tmp_path / "model")
    with pytest.raises(ArtefactError, match="no such folder"):
        Corpus.open(tmp_path / "nowhere")


def test_building_again_replaces_only_when_asked(tmp_path: Path) -> None:
    first = Corpus.build([TEA], tmp_path / "corpus", made_by={"command": "test"})
    assert first.manifest.made_by == {"command": "test", "chunk_words": None, "chunk_overlap": 0}
    with pytest.raises(ArtefactError, match="stands there already"):
        Corpus.build([ICE], tmp_path / "corpus")
    second = Corpus.build([ICE], tmp_path / "corpus", overwrite=True)
    assert list(second) == [ICE]
    # The old pages stay mapped: whoever had it open reads on.
    assert list(first) == [TEA]


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    """Peak Python memory for 20,000 documents of 5,000 characters stays far below their 100 MB."""
    text = "word " * 1000

    def many() -> Iterator[Document]:
        for number in range(20_000):
            yield Document(str(number), f"{number} {text}")

    tracemalloc.start()
    corpus = Corpus.build(many(), tmp_path / "corpus")
    assert sum(len(item.text) for item in corpus) > 100_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    assert corpus["19999"].text.startswith("19999 ")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, sys\nfrom retgen.corpus import Corpus\nfrom retgen.errors import ArtefactError\n"
        "from retgen.types import Document\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    Corpus.build((Document(str(n), 'x' * 1000) for n in range(5000)), sys.argv[1], overwrite=True)\n"
        "except ArtefactError as error:\n    print(error)\n"
    )
    path = Corpus.build([TEA], tmp_path / "corpus").path
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert "over its limit" in done.stdout, done.stderr
    assert list(Corpus.open(path, verify=True)) == [TEA]


def test_opening_loads_no_model_library(tmp_path: Path) -> None:
    path = Corpus.build([TEA], tmp_path / "corpus").path
    script = (
        "import json, sys\nfrom retgen.corpus import Corpus\nimport retgen.formats, retgen.text\n"
        "Corpus.open(sys.argv[1])['tea']\n"
        "print(json.dumps([name for name in ('torch', 'transformers') if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_real_collection(shared_data: Path) -> None:
    documents = list(read_corpus(shared_data / "squad" / "dev-v1.1.json"))
    corpus = Corpus.from_documents(documents)
    assert list(corpus) == documents
    assert all(corpus[item.id] == item for item in documents[::50])
    chunks = Corpus.from_documents(documents, chunk_words=50, chunk_overlap=10)
    assert len(chunks) > 2 * len(documents)
    assert {chunks.document_id(chunk.id) for chunk in chunks} == set(corpus.ids)
