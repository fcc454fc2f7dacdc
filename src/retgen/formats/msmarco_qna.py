"""MS MARCO QnA v2.1: the official JSON of columns, or one row a line.

Its passages have no ids, and one passage stands under many queries: its id here is a hash of its text, the same in
every file. Both forms are streamed; of the official one, whose columns follow each other, questions, answers and the
selected passages are held until the last column is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retgen.errors import RecordError
from retgen.formats.json_stream import json_columns
from retgen.formats.lines import peek
from retgen.formats.records import Record, SeenIds, Skipped, json_lines, parsed
from retgen.types import Document, Query, Triplet

COLUMNS = ("answers", "passages", "query", "query_id", "query_type", "wellFormedAnswers")
_COLUMN = re.compile(r'\s*\{\s*"\w+"\s*:\s*\{\s*(?:"\d+"|\})')
_NO_ANSWER = "No Answer Present."


def passage_id(text: str) -> str:
    """The id of a passage: 80 bits of its text's BLAKE2b hash, in hexadecimal.

    Example:
        >>> passage_id("The sky is blue.")
        '38c7508dd99f709aa6a8'
    """
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True, slots=True)
class Example:
    """A row.

    Args:
        query: the question.
        answers: free-form; none where the row says "No Answer Present.".
        selected: the passages marked as selected, each once.
    """

    query: Query
    answers: tuple[str, ...]
    selected: tuple[Document, ...]


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """Every passage once, with its address in ``metadata["url"]``.

    Raises:
        RecordError: a bad row or passage, unless ``skipped`` collects them.
    """
    seen: set[bytes] = set()
    for row in _passage_rows(Path(path), skipped):
        for document, _ in _row_passages(row, skipped):
            key = bytes.fromhex(document.id)
            if key not in seen:
                seen.add(key)
                yield document


def read_examples(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Example]:
    """The questions with their answers and the passages marked as selected.

    "No Answer Present." is no answer; a test file's rows have neither answers nor selected passages.

    Raises:
        RecordError: a bad row, unless ``skipped`` collects them; an official file that breaks off, always.
    """
    path = Path(path)
    seen = SeenIds("query id")

    def parse(raw: tuple[Record, tuple[Document, ...] | RecordError]) -> Example:
        row, selected = raw
        query = Query(row.identifier("query_id"), row.filled_text("query"))
        answers = tuple(answer for answer in row.texts("answers") if answer != _NO_ANSWER)
        if isinstance(selected, RecordError):
            raise selected
        seen.add(query.id, lambda what: row.error(what, "query_id"))
        return Example(query, answers, selected)

    if is_columns(peek(path)):
        return parsed(_joined_columns(path), parse, skipped)
    return parsed(((row, _selected(row)) for row in json_lines(path, skipped)), parse, skipped)


def read_triplets(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The questions with their answers and the ids of their selected passages; see `read_examples`."""
    for example in read_examples(path, skipped=skipped):
        yield Triplet(example.query, example.answers, tuple(passage.id for passage in example.selected))


def _row_passages(row: Record, skipped: Skipped | None) -> list[tuple[Document, bool]]:
    try:
        return _passages(row)
    except RecordError as error:
        if skipped is None:
            raise
        skipped.add(error)
        return []


def _passages(row: Record) -> list[tuple[Document, bool]]:
    """The passages of a row: a list of objects in the official file, an object of lists elsewhere."""
    value = row.value.get("passages")
    if isinstance(value, dict):
        columns = {name: items for name, items in value.items() if isinstance(items, list)}
        lengths = {len(items) for items in columns.values()}
        if len(lengths) != 1:
            raise row.error("its columns must be lists of one length", "passages")
        value = [{name: items[i] for name, items in columns.items()} for i in range(lengths.pop())]
    if not isinstance(value, list):
        raise row.error("expected a list of passages", "passages")
    found = []
    for number, item in enumerate(value):
        passage = row.child(item, f"passages[{number}]")
        text = passage.filled_text("passage_text")
        chosen = passage.value.get("is_selected", 0)
        if chosen not in (0, 1):
            raise passage.error("expected 0 or 1", "is_selected")
        url = passage.text("url", default="")
        found.append((Document(passage_id(text), text, metadata={"url": url} if url else {}), chosen == 1))
    return found


def _selected(row: Record) -> tuple[Document, ...] | RecordError:
    """The selected passages of a row, or what is wrong with its passages: said when the row's turn comes."""
    try:
        chosen = {document.id: document for document, selected in _passages(row) if selected}
    except RecordError as error:
        return error
    return tuple(chosen.values())


def _passage_rows(path: Path, skipped: Skipped | None) -> Iterator[Record]:
    if not is_columns(peek(path)):
        yield from json_lines(path, skipped)
        return
    for column, number, _, value in json_columns(path):
        if column == "passages":
            yield Record({column: value}, path, number)


def is_columns(head: str) -> bool:
    """Whether a file that begins so is the official object of columns, e.g. ``{"answers": {"0": [``."""
    return _COLUMN.match(head) is not None


def _joined_columns(path: Path) -> Iterator[tuple[Record, tuple[Document, ...] | RecordError]]:
    kept: dict[str, dict[str, object]] = {name: {} for name in ("answers", "query", "query_id")}
    selected: dict[str, tuple[Document, ...] | RecordError] = {}
    met = set()
    for column, number, key, value in json_columns(path):
        met.add(column)
        if column == "passages":
            selected[key] = _selected(Record({column: value}, path, number))
        elif column in kept:
            kept[column][key] = value
    for name in ("query", "query_id", "passages"):
        if name not in met:
            raise RecordError(f"there is no column {name!r}, or it is empty", path=path, field=name)
    for number, key in enumerate(kept["query_id"], 1):
        row = Record({name: column[key] for name, column in kept.items() if key in column}, path, number)
        yield row, selected[key] if key in selected else row.error("expected a list of passages", "passages")
