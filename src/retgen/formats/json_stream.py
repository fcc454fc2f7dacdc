"""A large JSON array, or object of columns, one element at a time, without ever holding the whole file."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from retgen.errors import RecordError
from retgen.formats.lines import DAMAGED, open_bytes

_CHUNK = 1 << 16
_LARGEST = 1 << 27
_AFTER = tuple(" \t\r\n,:]}")
_SPACE = re.compile(r"[ \t\r\n]*")


def json_array(path: Path) -> Iterator[tuple[int, object]]:
    """The elements of the array that a JSON file holds, numbered from 1.

    A file that breaks off or is no JSON from some point on raises after the elements before that point: what follows
    cannot be told apart, so it is never skipped.

    Args:
        path: a UTF-8 file, gzip accepted. An element may have up to 128 Mi characters.

    Raises:
        RecordError: the file is not a JSON array, not UTF-8, or broken; ``line`` is the element's number.
    """
    window = _Window(path)
    if window.next_character() != "[":
        raise window.error("a JSON array was expected")
    window.position += 1
    if window.next_character() == "]":
        window.position += 1
    else:
        while True:
            window.number += 1
            window.next_character()
            yield window.number, window.value()
            after = window.next_character()
            if after not in ",]" or not after:
                raise window.error("the array is broken: expected a comma or its end")
            window.position += 1
            if after == "]":
                break
    if window.next_character():
        raise window.error("something follows the array's end")


def json_columns(path: Path) -> Iterator[tuple[str, int, str, object]]:
    """The values of an object of objects (``{"query": {"0": …, "1": …}, …}``): column, place in it from 1, key, value.

    A file that breaks off raises as in `json_array`.

    Args:
        path: a UTF-8 file, gzip accepted. A value may have up to 128 Mi characters.

    Raises:
        RecordError: the file is not such an object, not UTF-8, or broken; ``line`` is the place in the column.
    """
    window = _Window(path)
    for column in window.names():
        window.number = 0
        for key in window.names():
            window.number += 1
            yield column, window.number, key, window.value()
    if window.next_character():
        raise window.error("something follows the object's end")


class _Window:
    """The part of the file in view: characters not yet consumed, read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.position = 0
        self._text = ""
        self._ended = False
        self._chunks = self._read()
        self._decoder = json.JSONDecoder(parse_constant=self._refuse)

    def error(self, what: str) -> RecordError:
        return RecordError(what, path=self.path, line=self.number or 1, mend=DAMAGED)

    def next_character(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self._text):
                return self._text[self.position]
            if not self._grow(_CHUNK):
                return ""

    def names(self) -> Iterator[str]:
        """The names in the object that begins here; each one's value is to be consumed before the next."""
        if self.next_character() != "{":
            raise self.error("a JSON object was expected")
        self.position += 1
        if self.next_character() == "}":
            self.position += 1
            return
        while True:
            self.next_character()
            name = self.value()
            if not isinstance(name, str) or self.next_character() != ":":
                raise self.error("the object is broken: expected a name and a colon")
            self.position += 1
            self.next_character()
            yield name
            after = self.next_character()
            if after not in ",}" or not after:
                raise self.error("the object is broken: expected a comma or its end")
            self.position += 1
            if after == "}":
                return

    def value(self) -> object:
        wanted = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self.position)
            except json.JSONDecodeError as error:
                # Broken, or only not all in view: which of the two is known at the file's end.
                if len(self._text) - self.position > _LARGEST or not self._grow(wanted):
                    raise self.error(f"this is not JSON ({error.msg})") from error
            except (ValueError, RecursionError) as error:
                raise self.error(f"this is not usable JSON ({error})") from error
            else:
                # A number may go on beyond the view ("12" of "12.5"); whatever ended does so before one of these.
                if self._text[end : end + 1] in _AFTER or not self._grow(_CHUNK):
                    self.position = end
                    return value
            wanted *= 2

    def _grow(self, wanted: int) -> bool:
        """Bring at least ``wanted`` more characters into view, or all there are; False at the file's end."""
        parts = []
        size = 0
        while size < wanted and (part := next(self._chunks, None)) is not None:
            parts.append(part)
            size += len(part)
        if size:
            self._text = "".join([self._text[self.position :], *parts])
            self.position = 0
        return size > 0

    def _read(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        with open_bytes(self.path) as source:
            try:
                while data := source.read(_CHUNK):
                    yield decoder.decode(data)
                yield decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise self.error("this is not UTF-8") from error
            except (OSError, EOFError, zlib.error) as error:
                raise self.error(f"reading broke off ({error})") from error

    @staticmethod
    def _refuse(name: str) -> object:
        raise ValueError(f"{name} is not a JSON value")
