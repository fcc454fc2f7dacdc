"""MS MARCO QnA v2.1: the official JSON of columns, or one row a line.

Its passages have no ids, and one passage stands under many queries: its id here is a hash of its text, the same in
every file. The official file is one object of columns and is read whole; the file of rows is streamed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from retgen.errors import RecordError
from retgen.formats.lines import parse_json, peek, read_text
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


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """Every passage once, with its address in ``metadata["url"]``.

    Raises:
        RecordError: a bad row or passage, unless ``skipped`` collects them.
    """
    seen: set[bytes] = set()
    for row in _rows(Path(path), skipped):
        for document, _ in _row_passages(row, skipped):
            key = bytes.fromhex(document.id)
            if key not in seen:
                seen.add(key)
                yield document


def read_triplets(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The queries with their answers and the passages marked as selected.

    "No Answer Present." is no answer; a test file's rows have neither answers nor selected passages.

    Raises:
        RecordError: a bad row, unless ``skipped`` collects them.
    """
    seen = SeenIds("query id")

    def parse(row: Record) -> Triplet:
        query = Query(row.identifier("query_id"), row.filled_text("query"))
        answers = tuple(answer for answer in row.texts("answers") if answer != _NO_ANSWER)
        selected = dict.fromkeys(document.id for document, chosen in _passages(row) if chosen)
        seen.add(query.id, lambda what: row.error(what, "query_id"))
        return Triplet(query, answers, tuple(selected))

    return parsed(_rows(Path(path), skipped), parse, skipped)


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


def _rows(path: Path, skipped: Skipped | None) -> Iterator[Record]:
    if is_columns(peek(path)):
        return parsed(_joined_columns(path), lambda row: row, skipped)
    return json_lines(path, skipped)


def is_columns(head: str) -> bool:
    """Whether a file that begins so is the official object of columns, e.g. ``{"answers": {"0": [``."""
    return _COLUMN.match(head) is not None


def _joined_columns(path: Path) -> Iterator[Record]:
    whole = Record(parse_json(read_text(path), path), path, None)
    columns: dict[str, dict[str, object]] = {}
    for name in COLUMNS:
        if name in whole.value:
            columns[name] = whole.child(whole.value[name], name).value
    for name in ("query", "query_id", "passages"):
        if name not in columns:
            raise whole.error(f"there is no column {name!r}", name)
    for number, key in enumerate(columns["query_id"]):
        row = {name: column[key] for name, column in columns.items() if key in column}
        yield Record(row, path, number + 1)
