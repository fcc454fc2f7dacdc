"""The journal keeps what was acknowledged, passes over what was not, and refuses what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.docids.journal import Journal
from retgen.errors import ArtefactError, MismatchError, RetgenError

RECORDS = [{"add": [["a", "é\n", [5, 1]]]}, {"remove": [3]}, {"remove": []}]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[int]]:
    """A journal with all records, and its size after each of them."""
    path = tmp_path / "changes"
    journal = Journal(path, of="this")
    sizes = []
    for record in RECORDS:
        journal.append(record)
        sizes.append(path.stat().st_size)
    return path, sizes


def test_records_come_back_in_order_and_once(written: tuple[Path, list[int]]) -> None:
    journal = Journal(written[0], of="this")
    assert journal.read() == RECORDS
    assert journal.read() == []
    journal.append({"more": 1})
    reader = Journal(written[0], of="this")
    assert reader.read() == [*RECORDS, {"more": 1}]
    journal.append({"more": 2})
    assert reader.read() == [{"more": 2}]


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert Journal(tmp_path / "changes", of="this").read() == []


def test_wherever_a_writer_is_killed_whole_records_stay(written: tuple[Path, list[int]]) -> None:
    path, sizes = written
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        journal = Journal(path, of="this")
        whole = [record for record, size in zip(RECORDS, sizes, strict=True) if size <= cut]
        assert journal.read() == whole, cut
    for cut in (0, 5, sizes[0] - 1, sizes[0] + 7, sizes[1] + 40):
        path.write_bytes(data[:cut])
        journal = Journal(path, of="this")
        whole = journal.read()
        journal.append({"more": 1})
        assert Journal(path, of="this").read() == [*whole, {"more": 1}]


def test_zeros_at_the_end_were_never_written(written: tuple[Path, list[int]]) -> None:
    path, _ = written
    path.write_bytes(path.read_bytes() + bytes(100))
    assert Journal(path, of="this").read() == RECORDS


def test_a_changed_byte_anywhere_is_an_error(written: tuple[Path, list[int]]) -> None:
    path, _ = written
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (1, 64):
            changed = bytearray(data)
            changed[place] ^= bit
            path.write_bytes(changed)
            with pytest.raises(RetgenError):
                Journal(path, of="this").read()


def test_changes_of_something_else_and_of_newer_versions_are_refused(
    written: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MismatchError, match="another build"):
        Journal(written[0], of="that").read()
    monkeypatch.setattr("retgen.docids.journal.VERSION", 0)
    with pytest.raises(ArtefactError, match="newer"):
        Journal(written[0], of="this").read()


def test_a_journal_that_was_taken_away_is_not_written_on(written: tuple[Path, list[int]]) -> None:
    journal = Journal(written[0], of="this")
    journal.read()
    written[0].write_bytes(b"")
    with pytest.raises(ArtefactError, match="damaged"):
        journal.append({"more": 1})
    written[0].unlink()
    with pytest.raises(ArtefactError, match="cannot be written"):
        journal.append({"more": 1})
