"""MS MARCO QnA: columns and rows hold the same; a passage that stands twice is one document."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from retgen.errors import RecordError
from retgen.formats import Skipped, msmarco_qna, read_corpus, read_queries, read_triplets
from tests.formats import samples

SKY = msmarco_qna.passage_id("The sky is blue.")
SEA = msmarco_qna.passage_id("The sea is blue too.")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train_v2.1.json", json.dumps(samples.MSMARCO_COLUMNS).encode()),
        ("train_v2.1.json", json.dumps(samples.MSMARCO_COLUMNS, indent=2).encode()),
        ("rows.jsonl", samples.lines(samples.MSMARCO_ROWS)),
        ("rows.json", samples.lines(samples.MSMARCO_ROWS)),
    ],
)
def test_columns_and_rows_hold_the_same(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    documents = list(read_corpus(path))
    assert [(item.id, item.text) for item in documents] == [(SKY, "The sky is blue."), (SEA, "The sea is blue too.")]
    assert documents[0].metadata == {"url": "http://a.example/sky"}
    triplets = list(read_triplets(path))
    assert [(item.query.id, item.answers, item.doc_ids) for item in triplets] == [
        ("11", ("Blue.",), (SKY,)),
        ("12", (), ()),
    ]
    assert [item.text for item in read_queries(path)] == ["what colour is the sky", "what colour is a mirror"]


def test_passages_as_lists_beside_each_other(tmp_path: Path) -> None:
    rows = copy.deepcopy(samples.MSMARCO_ROWS)
    for row in rows:
        passages = row["passages"]
        assert isinstance(passages, list)
        row["passages"] = {name: [passage[name] for passage in passages] for name in passages[0]}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(samples.lines(rows))
    assert [item.id for item in read_corpus(path)] == [SKY, SEA]
    assert next(read_triplets(path)).doc_ids == (SKY,)


def test_a_test_file_has_neither_answers_nor_labels(tmp_path: Path) -> None:
    columns = copy.deepcopy(samples.MSMARCO_COLUMNS)
    del columns["answers"], columns["wellFormedAnswers"]
    for passages in columns["passages"].values():
        assert isinstance(passages, list)
        for passage in passages:
            del passage["is_selected"]
    path = tmp_path / "test.json"
    path.write_text(json.dumps(columns))
    assert all(item.answers == item.doc_ids == () for item in read_triplets(path))


@pytest.mark.parametrize(
    ("bend", "field"),
    [
        (lambda row: row.update(query=" "), "query"),
        (lambda row: row.pop("query_id"), "query_id"),
        (lambda row: row.update(query_id=11), "query_id"),
        (lambda row: row.update(passages="x"), "passages"),
        (lambda row: row["passages"][0].update(passage_text=None), "passages[0].passage_text"),
        (lambda row: row["passages"][0].update(is_selected=2), "passages[0].is_selected"),
        (lambda row: row.update(answers=[{}]), "answers[0]"),
    ],
)
def test_a_bad_row_is_named_and_can_be_left_out(tmp_path: Path, bend: object, field: str) -> None:
    rows = copy.deepcopy(samples.MSMARCO_ROWS)
    bend(rows[1])  # type: ignore[operator]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(samples.lines(rows))
    with pytest.raises(RecordError) as caught:
        list(msmarco_qna.read_triplets(path))
    assert (caught.value.line, caught.value.field) == (2, field)
    skipped = Skipped()
    assert [item.query.id for item in msmarco_qna.read_triplets(path, skipped=skipped)] == ["11"]
    assert skipped.count == 1


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    columns = {name: column for name, column in samples.MSMARCO_COLUMNS.items() if name != "query"}
    (tmp_path / "a.json").write_text(json.dumps(columns))
    with pytest.raises(RecordError, match="no column 'query'"):
        list(read_triplets(tmp_path / "a.json"))


def test_examples_hold_the_selected_passages(tmp_path: Path) -> None:
    (tmp_path / "columns.json").write_text(json.dumps(samples.MSMARCO_COLUMNS))
    (tmp_path / "rows.jsonl").write_bytes(samples.lines(samples.MSMARCO_ROWS))
    columns, rows = (list(msmarco_qna.read_examples(tmp_path / name)) for name in ("columns.json", "rows.jsonl"))
    assert columns == rows
    assert [[passage.text for passage in example.selected] for example in rows] == [["The sky is blue."], []]


def test_a_bad_passage_of_a_column_is_named_when_its_row_comes(tmp_path: Path) -> None:
    columns = copy.deepcopy(samples.MSMARCO_COLUMNS)
    last = list(columns["passages"])[-1]
    columns["passages"][last] = "x"
    path = tmp_path / "columns.json"
    path.write_text(json.dumps(columns))
    with pytest.raises(RecordError, match="expected a list of passages") as caught:
        list(msmarco_qna.read_triplets(path))
    assert (caught.value.line, caught.value.field) == (2, "passages")
    skipped = Skipped()
    assert len(list(msmarco_qna.read_triplets(path, skipped=skipped))) == skipped.count == 1
