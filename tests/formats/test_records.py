"""The shared parts: ids are unique, skipped records are counted, and damage is told from a bad record."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import FormatError, RecordError
from retgen.formats import Skipped, read_corpus
from retgen.formats.lines import raw_lines
from retgen.formats.records import SeenIds


def error(what: str) -> RecordError:
    return RecordError(what, path="f")


@given(st.lists(st.integers(0, 30).map(str) | st.sampled_from(["007", "x", "-1", "²", "9" * 30]), max_size=40))
def test_an_id_is_new_exactly_once(ids: list[str]) -> None:
    seen, met = SeenIds(), set()
    for value in ids:
        if value in met:
            with pytest.raises(RecordError, match="second time"):
                seen.add(value, error)
        else:
            seen.add(value, error)
        met.add(value)


def test_ids_that_count_up_cost_no_memory() -> None:
    seen = SeenIds()
    for number in range(1, 10_001):
        seen.add(str(number), error)
    assert not seen._others
    with pytest.raises(RecordError):
        seen.add("5000", error)


def test_skipped_counts_all_and_lists_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"_id": "x", "text": "y"}\n' + "{\n" * 30)
    skipped = Skipped(limit=3)
    assert len(list(read_corpus(path, skipped=skipped))) == 1
    assert (skipped.count, len(skipped.errors)) == (30, 3)
    assert str(skipped).startswith("30 bad records left out:\n")
    assert f"{path}:2: this is not JSON" in str(skipped)
    assert str(skipped).endswith("and 27 more")
    assert skipped
    assert not Skipped()
    assert str(Skipped()) == "no bad record"


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"\xff\xff" + data[42:]])
def test_a_damaged_archive_is_never_skipped(tmp_path: Path, damage: object) -> None:
    """What follows the damage is lost, so leaving out one record would be a lie."""
    path = tmp_path / "a.jsonl.gz"
    text = "".join(f'{{"_id": "{number}", "text": "text {number * 7919}"}}\n' for number in range(20_000))
    path.write_bytes(damage(gzip.compress(text.encode())))  # type: ignore[operator]
    with pytest.raises((RecordError, FormatError)):
        list(read_corpus(path, skipped=Skipped()))


def test_lines_are_cut_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\x0bb\xc2\x85c\r\n\xe2\x80\xa8d\r\r\ne")
    assert list(raw_lines(tmp_path / "a")) == [(1, b"a\x0bb\xc2\x85c"), (2, b"\xe2\x80\xa8d\r"), (3, b"e")]
