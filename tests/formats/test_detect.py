"""A format is told by content; what is not known is refused with the list of what is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retgen.errors import FormatError, UsageError
from retgen.formats import CORPUS_FORMATS, detect, read_corpus, read_qrels, read_queries, read_triplets
from retgen.formats.detect import Format, corpus_format, question_format
from tests.formats import samples

LONG = "x" * (1 << 17)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.json", json.dumps(samples.SQUAD).encode(), Format.SQUAD),
        ("a.json", json.dumps(samples.SQUAD, indent=2).encode(), Format.SQUAD),
        ("a.json", json.dumps({"about": LONG, **samples.SQUAD}).encode(), Format.SQUAD),
        ("nq.json", json.dumps(samples.DPR).encode(), Format.DPR),
        ("a.json", json.dumps(samples.MSMARCO_COLUMNS).encode(), Format.MSMARCO_QNA),
        ("a.jsonl", samples.lines(samples.MSMARCO_ROWS), Format.MSMARCO_QNA),
        ("squad-beir-dpr.jsonl", samples.lines(samples.DOCUMENTS), Format.JSONL),
        ("a.json", samples.lines(samples.DOCUMENTS), Format.JSONL),
        ("a.jsonl", samples.lines([{"_id": "x", "text": "y", "data": [1]}]), Format.JSONL),
        ("a.jsonl", samples.lines([{"_id": "x", "text": LONG}]), Format.JSONL),
        ("a.jsonl", b"{broken\n", Format.JSONL),
        ("a.tsv", samples.PASSAGES.encode(), Format.DPR_PASSAGES),
        ("a.md", b"# x", Format.FOLDER),
        ("noname", samples.lines(samples.DOCUMENTS), Format.JSONL),
    ],
)
def test_a_corpus_is_told_by_its_content(tmp_path: Path, name: str, data: bytes, expected: Format) -> None:
    (tmp_path / name).write_bytes(data)
    assert corpus_format(tmp_path / name) is expected
    assert corpus_format(tmp_path / name, str(expected)) is expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.tsv", b"q1\twhat\n", Format.QUERY_TABLE),
        ("a.txt", b"q1\twhat\n", Format.QUERY_TABLE),
        ("a.tsv", samples.lines(samples.QUERIES), Format.JSONL),
        ("a.json", json.dumps(samples.SQUAD).encode(), Format.SQUAD),
        ("a.json", json.dumps(samples.DPR).encode(), Format.DPR),
    ],
)
def test_questions_are_told_by_their_content(tmp_path: Path, name: str, data: bytes, expected: Format) -> None:
    (tmp_path / name).write_bytes(data)
    assert question_format(tmp_path / name) is expected


@pytest.mark.parametrize("data", [b"", b"hello\n", b'{"neither": 1,\n "nor": 2}', b'{"a": ', b"\xff\xfe{\0", b"42"])
def test_what_is_not_known_is_refused_with_the_list_of_what_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"Accepted: .*BEIR.*SQuAD.*ir_datasets"):
        read_corpus(path)
    with pytest.raises(FormatError, match=r"Accepted: .*BEIR.*SQuAD.*ir_datasets"):
        read_queries(path)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "queries.tsv"
    path.write_bytes(data)
    for read in (read_queries, read_triplets):
        with pytest.raises(FormatError, match="this file is empty"):
            read(path)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    for read in (read_corpus, read_queries, read_triplets, read_qrels):
        for path in (tmp_path / "nowhere", "a\0b", "x" * 5000):
            with pytest.raises(FormatError):
                read(path)


def test_a_format_by_name(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(samples.lines(samples.DOCUMENTS))
    assert [item.id for item in read_corpus(path)] == ["data.txt"]
    assert [item.id for item in read_corpus(path, format="jsonl")] == ["d1", "d2", "3"]
    with pytest.raises(UsageError, match="Choose one of: beir"):
        read_corpus(path, format="xml")
    with pytest.raises(FormatError, match="no documents"):
        read_corpus(path, format="tsv")
    assert "folder" in CORPUS_FORMATS
    assert "tsv" not in CORPUS_FORMATS


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"queries\.jsonl"):
        read_queries(tmp_path)
    with pytest.raises(FormatError, match=detect.ACCEPTED[:8]):
        read_corpus(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert corpus_format(tmp_path) is Format.FOLDER
    (tmp_path / "corpus.jsonl").write_bytes(samples.lines(samples.DOCUMENTS))
    assert corpus_format(tmp_path) is Format.BEIR
    (tmp_path / "queries.jsonl").write_bytes(samples.lines(samples.QUERIES))
    assert question_format(tmp_path) is Format.BEIR
    with pytest.raises(FormatError, match="no questions with answers"):
        read_triplets(tmp_path)
