"""What all readers share: checked fields, duplicate ids, and the list of what was left out.

A reader turns each record into a value or a `RecordError` with file, line and field. With a `Skipped` at hand the bad
record is written down there and left out; without one the first bad record ends the reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from retgen.errors import RecordError
from retgen.formats.lines import decoded, parse_json, raw_lines

Raw = TypeVar("Raw")
Item = TypeVar("Item")

# NUL ends strings in half of the tools downstream; a lone surrogate cannot be written as UTF-8 at all.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_UNUSABLE_IN_ID = re.compile("[\0-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_DEPTH = 64


@dataclass(slots=True)
class Skipped:
    """What ``--skip-bad`` left out: how many records, and the first of their errors.

    Args:
        limit: how many errors to keep for the list; all are counted.

    Example:
        >>> skipped = Skipped()
        >>> skipped.add(RecordError("the text is missing", path="corpus.jsonl", line=3, field="text"))
        >>> print(skipped)
        1 bad record left out:
          corpus.jsonl:3 [text]: the text is missing
    """

    limit: int = 20
    count: int = 0
    errors: list[RecordError] = field(default_factory=list)

    def add(self, error: RecordError) -> None:
        """Count a bad record, and list it while there is room."""
        self.count += 1
        if len(self.errors) < self.limit:
            self.errors.append(error)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        if not self.count:
            return "no bad record"
        head = f"{self.count} bad record{'s' if self.count > 1 else ''} left out:"
        listed = [f"  {error.where}: {error.what}" for error in self.errors]
        rest = self.count - len(self.errors)
        return "\n".join([head, *listed, *([f"  and {rest} more"] if rest else [])])


def parsed(source: Iterable[Raw], parse: Callable[[Raw], Item | None], skipped: Skipped | None) -> Iterator[Item]:
    """Parse each raw record; a `RecordError` is raised or noted, None (a header, a blank line) is passed over."""
    for raw in source:
        try:
            item = parse(raw)
        except RecordError as error:
            if skipped is None:
                raise
            skipped.add(error)
            continue
        if item is not None:
            yield item


def json_lines(path: Path, skipped: Skipped | None) -> Iterator[Record]:
    """The objects of a JSONL file; blank lines are passed over."""

    def parse(raw: tuple[int, bytes]) -> Record | None:
        number, data = raw
        text = decoded(data, path, number)
        if not text.strip():
            return None
        return Record(parse_json(text, path, number), path, number)

    return parsed(raw_lines(path), parse, skipped)


class Record:
    """A JSON object with the place it came from; its getters check what they return.

    Args:
        value: what stands in the file; anything but an object is a bad record.
        path: the file.
        line: 1-based line, or the record's number where the format has no lines.
        inside: where in the record this object stands, e.g. ``"paragraphs[2]"``.
    """

    __slots__ = ("inside", "line", "path", "value")

    def __init__(self, value: object, path: Path, line: int | None, inside: str = "") -> None:
        self.path, self.line, self.inside = path, line, inside
        if not isinstance(value, dict):
            raise self.error(f"expected an object, got {kind_of(value)}")
        self.value: dict[str, object] = value

    def error(self, what: str, name: str | None = None) -> RecordError:
        """A bad-record error at this place."""
        at = ".".join(part for part in (self.inside, name) if part) or None
        return RecordError(what, path=self.path, line=self.line, field=at)

    def name_of(self, names: Sequence[str]) -> str | None:
        """The first of these names that the object has with a value other than null."""
        return next((name for name in names if self.value.get(name) is not None), None)

    def identifier(self, *names: str) -> str:
        """An id under the first of these names that is there: a text without control characters, or an integer."""
        name = self.name_of(names)
        if name is None:
            raise self.error(f"there is no {' or '.join(map(repr, names))}", names[0])
        return self.checked_id(self.value[name], name)

    def checked_id(self, value: object, name: str) -> str:
        """A value as an id."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.error(f"an id must be a text or an integer, got {kind_of(value)}", name)
        check_id(value, lambda what: self.error(what, name))
        return value

    def text(self, *names: str, default: str | None = None) -> str:
        """The text under the first of these names that is there; ``default`` where none is."""
        name = self.name_of(names)
        if name is None:
            if default is None:
                raise self.error(f"there is no {' or '.join(map(repr, names))}", names[0])
            return default
        return self.checked_text(self.value[name], name)

    def checked_text(self, value: object, name: str) -> str:
        """A value as a usable text."""
        if not isinstance(value, str):
            raise self.error(f"expected a text, got {kind_of(value)}", name)
        check_text(value, lambda what: self.error(what, name))
        return value

    def filled_text(self, *names: str) -> str:
        """A text that is not blank."""
        value = self.text(*names)
        if not value.strip():
            raise self.error("this text is empty", self.name_of(names))
        return value

    def items(self, *names: str, required: bool = False) -> tuple[str, list[object]]:
        """The first of these names that is there, and its list; an empty list where none is."""
        name = self.name_of(names)
        if name is None:
            if required:
                raise self.error(f"there is no {' or '.join(map(repr, names))}", names[0])
            return names[0], []
        value = self.value[name]
        if not isinstance(value, list):
            raise self.error(f"expected a list, got {kind_of(value)}", name)
        return name, value

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of texts; a single text counts as a list of one."""
        name = self.name_of(names)
        if name is not None and isinstance(self.value[name], str):
            return (self.checked_text(self.value[name], name),)
        name, values = self.items(*names)
        return tuple(self.checked_text(value, f"{name}[{i}]") for i, value in enumerate(values))

    def ids(self, *names: str) -> tuple[str, ...]:
        """A list of ids, each once."""
        name, values = self.items(*names)
        found = tuple(self.checked_id(value, f"{name}[{i}]") for i, value in enumerate(values))
        if len(set(found)) != len(found):
            raise self.error("an id stands twice in this list", name)
        return found

    def child(self, value: object, name: str) -> Record:
        """An object inside this one."""
        return Record(value, self.path, self.line, ".".join(part for part in (self.inside, name) if part))

    def plain(self, name: str, value: object, depth: int = 0) -> object:
        """A JSON value whose texts can be written and whose numbers are finite."""
        if depth > _DEPTH:
            raise self.error(f"this is nested more than {_DEPTH} deep", name)
        if isinstance(value, str):
            return self.checked_text(value, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error("this number is not finite", name)
        if isinstance(value, list):
            return [self.plain(name, item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.checked_text(key, name): self.plain(name, item, depth + 1) for key, item in value.items()}
        return value


class SeenIds:
    """Ids met so far, each allowed once.

    Ids that count up by one (1, 2, 3, …: a dump of Wikipedia) cost no memory; others cost about 100 bytes each.
    """

    def __init__(self, what: str = "id") -> None:
        self._what = what
        self._others: set[str] = set()
        self._first = 0
        self._next: int | None = None

    def add(self, value: str, error: Callable[[str], RecordError]) -> None:
        """Remember an id; raise ``error`` when it was met before."""
        number = int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else -1
        if number < 0 or str(number) != value:
            number = -1
        counts = self._next is not None and self._first <= number < self._next
        if counts or value in self._others:
            raise error(f"the {self._what} {value!r} occurs a second time")
        if number >= 0 and self._next is None:
            self._first, self._next = number, number + 1
        elif number >= 0 and number == self._next:
            self._next += 1
        else:
            self._others.add(value)


def check_id(value: str, error: Callable[[str], RecordError]) -> None:
    """An id is not blank and holds no control character or line break; spaces are allowed, but not at its ends."""
    if not value.strip():
        raise error("the id is empty")
    if value != value.strip():
        raise error(f"the id {value!r} begins or ends with white space")
    if _UNUSABLE_IN_ID.search(value):
        raise error(f"the id {value!r} holds a control character, a line break or half a surrogate pair")


def check_text(value: str, error: Callable[[str], RecordError]) -> None:
    """A text holds no NUL and no half of a surrogate pair."""
    if _UNUSABLE.search(value):
        raise error("the text holds a NUL or half a surrogate pair, which cannot be stored")


def kind_of(value: object) -> str:
    """A JSON value's kind in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
