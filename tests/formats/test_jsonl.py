"""JSON lines and query tables: what is written is read again exactly; a bad line is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import RecordError
from retgen.formats import Skipped, beir, jsonl, read_corpus, read_queries, read_triplets
from retgen.types import Document, Query, Triplet
from tests.formats import samples

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
FILLED = TEXT.filter(str.strip)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda value: value.strip() == value
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
DOCUMENTS = st.builds(Document, IDS, FILLED, TEXT, st.dictionaries(TEXT, PLAIN, max_size=2))
QUERIES = st.builds(Query, IDS, FILLED)
TRIPLETS = st.builds(
    Triplet, QUERIES, st.lists(TEXT, max_size=3).map(tuple), st.lists(IDS, max_size=3, unique=True).map(tuple)
)


@given(st.lists(DOCUMENTS, max_size=5, unique_by=lambda item: item.id))
def test_documents_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, items: list[Document]) -> None:
    path = tmp_path_factory.getbasetemp() / "documents.jsonl"
    jsonl.write_documents(path, items)
    assert list(jsonl.read_documents(path)) == items


@given(st.lists(TRIPLETS, max_size=5, unique_by=lambda item: item.query.id))
def test_triplets_and_queries_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, items: list[Triplet]
) -> None:
    path = tmp_path_factory.getbasetemp() / "triplets.jsonl"
    jsonl.write_triplets(path, items)
    assert list(jsonl.read_triplets(path)) == items
    queries = [item.query for item in items]
    jsonl.write_queries(path, queries)
    assert list(jsonl.read_queries(path)) == queries


def test_the_samples_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(samples.lines(samples.DOCUMENTS))
    assert list(read_corpus(path)) == [
        Document("d1", "Tea is hot.", "Tea", {"year": 2001, "tags": ["a", "b"]}),
        Document("d2", "Ice is cold.", "", {"lang": "en"}),
        Document("3", "", "Only a title"),
    ]
    path.write_bytes(samples.lines(samples.TRIPLETS))
    assert list(read_triplets(path)) == [
        Triplet(Query("t1", "what is hot?"), ("tea", "coffee"), ("d1",)),
        Triplet(Query("t2", "what is cold?"), ("ice",), ("d2", "d1")),
    ]
    assert list(read_queries(path)) == [Query("t1", "what is hot?"), Query("t2", "what is cold?")]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.rstrip(b"\n"),
        lambda data: b"\n \n" + data.replace(b"\n", b"\n\n"),
        gzip.compress,
    ],
    ids=["byte order mark", "CRLF", "no last newline", "blank lines", "gzip"],
)
def test_harmless_differences_change_nothing(tmp_path: Path, wrap: object) -> None:
    plain, wrapped = tmp_path / "plain.jsonl", tmp_path / "wrapped.jsonl"
    plain.write_bytes(samples.lines(samples.DOCUMENTS))
    wrapped.write_bytes(wrap(plain.read_bytes()))  # type: ignore[operator]
    assert list(read_corpus(wrapped)) == list(read_corpus(plain))


BAD_DOCUMENTS = [
    (b"{", None, "not JSON"),
    (b'{"_id": "x", "text": "a"', None, "not JSON"),
    (b'{"_id": "x", "text": "a"} trailing', None, "not JSON"),
    (b'["x"]', None, "expected an object, got a list"),
    (b"null", None, "got null"),
    (b'{"text": "a"}', "_id", "there is no '_id' or 'id'"),
    (b'{"_id": "", "text": "a"}', "_id", "empty"),
    (b'{"_id": 1.5, "text": "a"}', "_id", "a text or an integer"),
    (b'{"_id": true, "text": "a"}', "_id", "true or false"),
    (b'{"_id": "a\\nb", "text": "a"}', "_id", "line break"),
    (b'{"_id": "\\ud800", "text": "a"}', "_id", "surrogate"),
    (b'{"_id": " x", "text": "a"}', "_id", "begins or ends"),
    (b'{"_id": "x", "text": ["a"]}', "text", "expected a text, got a list"),
    (b'{"_id": "x", "text": "a\\u0000b"}', "text", "NUL"),
    (b'{"_id": "x", "text": "\\udfff"}', "text", "surrogate"),
    (b'{"_id": "x", "text": " ", "title": ""}', "text", "neither text nor title"),
    (b'{"_id": "x"}', "text", "neither text nor title"),
    (b'{"_id": "x", "text": "a", "title": 5}', "title", "a number"),
    (b'{"_id": "x", "text": "a", "metadata": []}', "metadata", "an object"),
    (b'{"_id": "x", "text": "a", "metadata": {"k": "\\ud800"}}', "metadata.k", "surrogate"),
    (b'{"_id": "x", "text": "a", "k": 1e999}', "k", "not finite"),
    (b'{"_id": "x", "text": "a", "k": NaN}', None, "NaN"),
    (b'{"_id": "x", "text": "a", "k": ' + b"[" * 70 + b"]" * 70 + b"}", "k", "deep"),
    (b'{"_id": "x", "text": ' + b"[" * 100_000, None, "not usable JSON"),
    (b'{"_id": ' + b"9" * 5000 + b', "text": "a"}', None, "not usable JSON"),
    (b'{"_id": "x", "text": "a\xff"}', None, "not UTF-8 (byte 0xff)"),
    (b'{"_id": "good", "text": "again"}', "id", "'good' occurs a second time"),
]


@pytest.mark.parametrize(("line", "field", "words"), BAD_DOCUMENTS)
def test_a_bad_document_is_named_and_can_be_left_out(
    tmp_path: Path, line: bytes, field: str | None, words: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"_id": "good", "text": "first"}\n' + line + b'\n{"_id": "last", "text": "third"}\n')
    with pytest.raises(RecordError) as caught:
        list(read_corpus(path))
    assert words in caught.value.what
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    assert "--skip-bad" in str(caught.value)
    skipped = Skipped()
    assert [item.id for item in read_corpus(path, skipped=skipped)] == ["good", "last"]
    assert skipped.count == 1
    assert skipped.errors[0].line == 2


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"id": "x", "question": " ", "answers": []}', "question"),
        ('{"id": "x", "question": "a"}', "answers"),
        ('{"id": "x", "question": "a", "answers": [1]}', "answers[0]"),
        ('{"id": "x", "question": "a", "doc_ids": "d"}', "doc_ids"),
        ('{"id": "x", "question": "a", "doc_ids": ["d", "d"]}', "doc_ids"),
        ('{"question": "a", "answers": []}', "_id"),
    ],
)
def test_a_bad_triplet_is_named(tmp_path: Path, line: str, field: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(RecordError) as caught:
        list(read_triplets(tmp_path / "a.jsonl"))
    assert (caught.value.line, caught.value.field) == (1, field)


def test_a_table_of_queries_with_and_without_header(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    expected = [Query("q1", "what is hot?"), Query("q2", "what is cold?")]
    path.write_text(samples.QUERY_TABLE)
    assert list(read_queries(path)) == expected
    path.write_text(samples.QUERY_TABLE.split("\n", 1)[1])
    assert list(read_queries(path)) == expected
    path.write_text('q1\t"unquoted" stays as it is\n')
    assert list(read_queries(path)) == [Query("q1", '"unquoted" stays as it is')]


@pytest.mark.parametrize(
    ("line", "field"),
    [("q2", None), ("q2\ta\tb", None), ("\ta", "id"), ("q2\t ", "text"), ("q1\tagain", "id"), ("q2\ta\0", "text")],
)
def test_a_bad_line_of_a_table_is_named(tmp_path: Path, line: str, field: str | None) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text(f"q1\tfine\n{line}\nq3\tfine\n")
    with pytest.raises(RecordError) as caught:
        list(read_queries(path))
    assert (caught.value.line, caught.value.field) == (2, field)
    skipped = Skipped()
    assert [item.id for item in read_queries(path, skipped=skipped)] == ["q1", "q3"]
    assert skipped.count == 1


def test_a_beir_folder(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(samples.lines(samples.DOCUMENTS))
    (tmp_path / "queries.jsonl").write_bytes(samples.lines(samples.QUERIES))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(samples.BEIR_QRELS)
    assert [item.id for item in read_corpus(tmp_path)] == ["d1", "d2", "3"]
    assert [item.id for item in read_queries(tmp_path)] == ["q1", "q2"]
    assert beir.read_qrels(tmp_path, "test") == {"q1": {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize(("name", "documents", "queries"), [("scifact", 5183, 1109), ("nfcorpus", 3633, 3237)])
def test_the_real_collections(shared_data: Path, name: str, documents: int, queries: int) -> None:
    assert sum(1 for _ in read_corpus(shared_data / name)) == documents
    assert sum(1 for _ in read_queries(shared_data / name)) == queries
    judged = beir.read_qrels(shared_data / name, "test")
    assert len(judged) == {"scifact": 300, "nfcorpus": 323}[name]


def test_the_real_triplets(shared_data: Path) -> None:
    corpus = {item.id for item in read_corpus(shared_data / "fairytaleqa" / "corpus.jsonl")}
    found = list(read_triplets(shared_data / "fairytaleqa" / "val.jsonl"))
    assert (len(corpus), len(found)) == (4095, 1025)
    assert all(item.answers and set(item.doc_ids) <= corpus for item in found)


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    jsonl.write_queries(path, [Query("q", "old")])
    with pytest.raises(ValueError):
        jsonl.write_documents(path, [Document("d", "new"), Document("e", "new", metadata={"k": float("nan")})])
    assert json.loads(path.read_text())["text"] == "old"
