"""Answers beside the queries of a BEIR folder: there where a line bears them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.errors import RecordError
from retgen.formats import beir
from retgen.formats.records import Skipped

LINES = [
    '{"_id": "q1", "text": "What melts at 1538 °C?", "answers": ["iron", "Fe"]}',
    '{"_id": "q2", "text": "Is it a metal?"}',
    '{"_id": "q3", "text": "How heavy is it?", "metadata": {}, "answers": []}',
]


def _folder(place: Path, *more: str) -> Path:
    (place / "queries.jsonl").write_text("\n".join([*LINES, *more]) + "\n", encoding="utf-8")
    return place


def test_lines_without_answers_have_none(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert beir.read_answers(folder) == {"q1": ("iron", "Fe")}
    assert [query.id for query in beir.read_queries(folder)] == ["q1", "q2", "q3"]


def test_what_is_no_answer_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path, '{"_id": "q4", "text": "?", "answers": [3]}')
    with pytest.raises(RecordError, match=r"queries\.jsonl:4"):
        beir.read_answers(folder)
    skipped = Skipped()
    assert set(beir.read_answers(folder, skipped=skipped)) == {"q1"}
