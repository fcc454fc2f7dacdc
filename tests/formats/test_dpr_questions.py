"""DPR's test questions, as they are published."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retgen.errors import RecordError
from retgen.formats import Skipped
from retgen.formats.dpr_questions import read_questions

LINES = """\
who got the first nobel prize in physics\t['Wilhelm Conrad Röntgen']
when is the next deadpool movie being released\t['May 18 , 2018']
"who sang ""here"" first"\t"['Alessia ""Cara""', ""d'Arcy""]"
"""


def test_questions_as_published(tmp_path: Path) -> None:
    path = tmp_path / "nq-test.csv"
    path.write_text(LINES, encoding="utf-8")
    first, second, third = read_questions(path)
    assert (first.query.id, first.query.text) == ("0", "who got the first nobel prize in physics")
    assert first.answers == ("Wilhelm Conrad Röntgen",)
    assert second.answers == ("May 18 , 2018",)
    assert third.query.text == 'who sang "here" first'
    assert third.answers == ('Alessia "Cara"', "d'Arcy")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no tab here", "one tab"),
        ("a\t['b']\tc", "3 columns"),
        ("\t['b']", "empty"),
        ("a\tb", "not answers in a Python list"),
        ("a\t'b'", "a list of texts"),
        ("a\t[]", "a list of texts"),
        ("a\t[1]", "a list of texts"),
        ("a\t__import__('os')", "not answers in a Python list"),
    ],
)
def test_bad_lines_are_named_or_skipped(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(f"good\t['x']\n{line}\nalso good\t['y']\n", encoding="utf-8")
    with pytest.raises(RecordError, match=says) as caught:
        list(read_questions(path))
    assert "test.csv:2" in str(caught.value)
    skipped = Skipped()
    assert [triplet.query.id for triplet in read_questions(path, skipped=skipped)] == ["0", "2"]
    assert skipped.count == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
@example(b"\r\x00")
def test_any_bytes_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "test.csv"
    path.write_bytes(data)
    skipped = Skipped()
    try:
        found = list(read_questions(path, skipped=skipped))
    except RecordError as error:  # gzip that breaks off: never skipped
        assert data.startswith(b"\x1f\x8b")
        skipped.add(error)
        found = []
    assert all(triplet.answers for triplet in found)
    assert all("test.csv" in str(error) for error in skipped.errors)
    if skipped:
        with pytest.raises(RecordError, match=r"test\.csv"):
            list(read_questions(path))
