"""An append-only file of changes that survives being killed: what was acknowledged is there, what was not is not.

Each line is a checksum, a length, a checksum of these two, and a JSON record. The first says whose changes they are.
A writer that is killed leaves at most the beginning of a line at the end, which is passed over, and cut off by the next
writer; anything else that does not fit its checksum is an error.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retgen.errors import ArtefactError, MismatchError
from retgen.store.files import own_errors, sync

VERSION = 1
_FORMAT = "retgen-changes"
_HEAD = re.compile(rb"(([0-9a-f]{8}) ([0-9]{10})) ([0-9a-f]{8}) ")
_HEAD_BYTES = 29
Record = dict[str, Any]


class Journal:
    """Changes to one thing, oldest first.

    Args:
        path: the file; it is made with the first record.
        of: fingerprint of what is changed. Changes to anything else are refused.
    """

    def __init__(self, path: Path, *, of: str) -> None:
        self.path = path
        self._of = of
        self._end = 0
        """Bytes of the whole records read or written so far."""

    def read(self) -> list[Record]:
        """The records written since it was last read.

        Raises:
            ArtefactError: the file is damaged, or of a newer format.
            MismatchError: it belongs to something else.
        """
        with own_errors(self.path, reading=True):
            try:
                with self.path.open("rb") as source:
                    source.seek(self._end)
                    data = source.read()
            except FileNotFoundError:
                return []
        records: list[Record] = []
        place = 0
        while (found := self._record(data, place)) is not None:
            record, length = found
            if self._end == 0:
                self._check_header(record)
            else:
                records.append(record)
            place += length
            self._end += length
        return records

    def append(self, record: Mapping[str, object]) -> None:
        """Write a record; when this returns, the disk itself holds it. All earlier ones must have been read.

        Raises:
            ArtefactError: the disk is full or the file not writable; the record is then not there.
        """
        new = self._end == 0
        data = _line(record)
        if new:
            data = _line({"format": _FORMAT, "version": VERSION, "of": self._of}) + data
        with own_errors(self.path):
            handle = os.open(self.path, os.O_RDWR | (os.O_CREAT if new else 0), 0o666)
            try:
                if os.fstat(handle).st_size < self._end:
                    raise self._damaged()
                os.ftruncate(handle, self._end)  # what a killed writer left of a record
                try:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[os.pwrite(handle, rest, self._end + len(data) - len(rest)) :]
                    os.fsync(handle)
                except BaseException:
                    os.ftruncate(handle, self._end)
                    raise
            finally:
                os.close(handle)
            if new:
                sync(self.path.parent)
        self._end += len(data)

    def _record(self, data: bytes, place: int) -> tuple[Record, int] | None:
        """The record at a place and its bytes; None at the end, or where only its beginning was written."""
        head = data[place : place + _HEAD_BYTES]
        if len(head) < _HEAD_BYTES:
            return None
        found = _HEAD.fullmatch(head)
        if found is None or zlib.crc32(found[1]) != int(found[4], 16):
            # A machine that lost its power may have left zeros where the last record would have stood.
            if not any(data[place:]):
                return None
            raise self._damaged()
        length = int(found[3])
        body = data[place + _HEAD_BYTES : place + _HEAD_BYTES + length]
        if len(body) < length:
            return None
        if zlib.crc32(body) != int(found[2], 16):
            raise self._damaged()
        try:
            record = json.loads(body)
        except ValueError as error:
            raise self._damaged() from error
        if not isinstance(record, dict):
            raise self._damaged()
        return record, _HEAD_BYTES + length

    def _damaged(self) -> ArtefactError:
        return ArtefactError(
            "the changes written here are damaged", where=self.path, mend="Copy the folder again, or build it again"
        )

    def _check_header(self, header: Record) -> None:
        if header.get("format") != _FORMAT or not isinstance(header.get("version"), int):
            raise self._damaged()
        if header["version"] > VERSION:
            raise ArtefactError(
                "these changes were written by a newer retgen",
                where=self.path,
                mend="Update retgen: pip install -U retgen",
            )
        if header.get("of") != self._of:
            raise MismatchError(
                "these changes were made to another build of this folder",
                where=self.path,
                mend="Copy the folder whole, or build it again",
            )


def _line(record: Mapping[str, object]) -> bytes:
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    head = b"%08x %010d" % (zlib.crc32(body), len(body))
    return b"%s %08x " % (head, zlib.crc32(head)) + body
