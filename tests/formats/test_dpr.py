"""DPR's files: streamed, quoted as CSV quotes, and the same after a way out and in."""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import FormatError, RecordError
from retgen.formats import Skipped, dpr, read_corpus, read_triplets
from retgen.types import Document, Query
from tests.formats import samples
from tests.formats.test_jsonl import FILLED, IDS, TEXT

PASSAGES = st.builds(Document, IDS, FILLED, TEXT)
# Tabs, quotes and line ends in every mixture: what quoting is for.
TRICKY = st.text(alphabet="ab\"\t\n\r '", max_size=8)
TRICKY_PASSAGES = st.builds(Document, IDS, TRICKY.filter(str.strip), TRICKY)
EXAMPLES = st.builds(
    dpr.Example,
    st.builds(Query, IDS, FILLED),
    st.lists(TEXT, max_size=2).map(tuple),
    st.lists(PASSAGES, max_size=2).map(tuple),
    st.lists(PASSAGES, max_size=2).map(tuple),
    st.lists(PASSAGES, max_size=2).map(tuple),
)


@given(st.lists(PASSAGES | TRICKY_PASSAGES, max_size=6, unique_by=lambda item: item.id))
def test_passages_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, items: list[Document]) -> None:
    path = tmp_path_factory.getbasetemp() / "passages.tsv"
    dpr.write_passages(path, items)
    assert list(dpr.read_passages(path)) == items


@given(st.lists(TRICKY_PASSAGES, max_size=6, unique_by=lambda item: item.id))
def test_passages_are_read_as_the_csv_module_writes_them(
    tmp_path_factory: pytest.TempPathFactory, items: list[Document]
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter="\t", quoting=csv.QUOTE_ALL)
    writer.writerows((item.id, item.text, item.title) for item in items)
    path = tmp_path_factory.getbasetemp() / "passages.tsv"
    path.write_bytes(b"id\ttext\ttitle\r\n" + out.getvalue().encode())
    assert list(dpr.read_passages(path)) == items


@given(st.lists(EXAMPLES, max_size=4, unique_by=lambda item: item.query.id))
def test_examples_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, items: list[dpr.Example]) -> None:
    path = tmp_path_factory.getbasetemp() / "dpr.json"
    dpr.write_examples(path, items)
    assert list(dpr.read_examples(path)) == items
    json.loads(path.read_text())


def test_the_sample_passages_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "psgs.tsv.gz"
    path.write_bytes(gzip.compress(samples.PASSAGES.encode()))
    assert list(read_corpus(path)) == [
        Document("1", "Plain text.", "Plain"),
        Document("2", 'With "quotes", a\ttab and\nanother line.', 'Quo"ted'),
    ]


def test_the_sample_examples_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "dpr.json"
    path.write_text(json.dumps(samples.DPR))
    first, second = dpr.read_examples(path)
    assert first.query == Query("0", "who won?")
    assert first.positives == (Document("17", "The Broncos won.", "Bowl", {"score": 12.5}),)
    assert first.hard_negatives == (Document("18", "The Panthers lost.", "Bowl", {"score": 11}),)
    assert second.query.id == "other"
    assert [item.doc_ids for item in read_triplets(path)] == [("17",), (second.positives[0].id,)]
    assert [item.id for item in read_corpus(path)] == ["17", "18", second.positives[0].id]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"2\tonly two", None),
        (b"2\ta\tb\tc", None),
        (b"\ta\tb", "id"),
        (b"1\tagain\tb", "id"),
        (b"2\t \t", "text"),
        (b"2\ta\xff\tb", None),
        (b"2\ta\0\tb", "text"),
        (b'2\t"open\tb', None),
        (b'2\t"closed" too early\tb', None),
        (b'2\t"open \xff\tb', None),
    ],
)
def test_a_bad_passage_costs_only_itself(tmp_path: Path, line: bytes, field: str | None) -> None:
    """Above all a quotation that never ends, which would swallow the rest of the file."""
    rest = b"".join(b"%d\tfine\tfine\n" % number for number in range(3, 203))
    path = tmp_path / "psgs.tsv"
    path.write_bytes(b"id\ttext\ttitle\n1\tfine\tfine\n" + line + b"\n" + rest)
    with pytest.raises(RecordError) as caught:
        list(read_corpus(path))
    assert (caught.value.line, caught.value.field) == (3, field)
    skipped = Skipped()
    assert [item.id for item in read_corpus(path, skipped=skipped)] == ["1", *map(str, range(3, 203))]
    assert skipped.count == 1


def test_passages_need_their_header(tmp_path: Path) -> None:
    (tmp_path / "psgs.tsv").write_text("1\ta\tb\n")
    with pytest.raises(FormatError, match="header"):
        read_corpus(tmp_path / "psgs.tsv")


def test_examples_are_streamed(tmp_path: Path) -> None:
    """The first of many is there before the file's end is reached, which here is broken."""
    path = tmp_path / "dpr.json"
    row = json.dumps(samples.DPR[1] | {"id": None})
    path.write_text("[" + ",\n".join([row] * 5000) + ", {")
    assert len(list(islice(dpr.read_examples(path), 4000))) == 4000
    with pytest.raises(RecordError, match="not JSON") as caught:
        list(dpr.read_examples(path))
    assert caught.value.line == 5001
    with pytest.raises(RecordError, match="not JSON"):
        list(dpr.read_examples(path, skipped=Skipped()))


def test_a_bad_example_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "dpr.json"
    bad = {"question": "x", "answers": [], "positive_ctxs": [{"title": "", "text": ""}]}
    path.write_text(json.dumps([samples.DPR[0], bad, samples.DPR[1]]))
    with pytest.raises(RecordError) as caught:
        list(dpr.read_examples(path))
    assert (caught.value.line, caught.value.field) == (2, "positive_ctxs[0].text")
    skipped = Skipped()
    assert [item.query.id for item in dpr.read_examples(path, skipped=skipped)] == ["0", "other"]
    assert skipped.count == 1
