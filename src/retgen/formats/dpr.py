"""DPR's files: training JSON (question, answers, positive and negative contexts) and passages in tab-separated columns.

``psgs_w100.tsv`` has a header ``id  text  title`` and quotes fields as CSV does. Both are streamed; gzip is accepted.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from retgen.errors import FormatError, RecordError
from retgen.formats.json_stream import json_array
from retgen.formats.lines import decoded, raw_lines
from retgen.formats.records import Record, SeenIds, Skipped, check_id, check_text, parsed
from retgen.store import atomic_file
from retgen.types import Document, Query, Triplet

HEADER = ("id", "text", "title")
_CONTEXT_ID = ("passage_id", "psg_id", "id")
_CONTEXTS = ("positive_ctxs", "negative_ctxs", "hard_negative_ctxs")
_ROW_LINES = 64


@dataclass(frozen=True, slots=True)
class Example:
    """A question of a DPR training file.

    Args:
        query: its id is the file's ``id`` or ``qid`` where it has one, else the record's number from 0.
        answers: accepted answers.
        positives: passages that answer it; a retriever's score stands in the passage's metadata as ``score``.
        hard_negatives: passages that look right and are not.
        negatives: other passages that do not answer it.
    """

    query: Query
    answers: tuple[str, ...]
    positives: tuple[Document, ...]
    hard_negatives: tuple[Document, ...] = ()
    negatives: tuple[Document, ...] = ()


def read_examples(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Example]:
    """The questions of a training file, one at a time.

    Raises:
        RecordError: a bad record, unless ``skipped`` collects them; a file that breaks off, always.
    """
    path = Path(path)
    seen = SeenIds("question id")

    def parse(raw: tuple[int, object]) -> Example:
        number, value = raw
        record = Record(value, path, number)
        name = record.name_of(("id", "qid", "question_id", "query_id"))
        query_id = record.identifier(name) if name else str(number - 1)
        query = Query(query_id, record.filled_text("question"))
        answers = record.texts("answers")
        positives, negatives, hard = (tuple(_context(item) for item in _children(record, name)) for name in _CONTEXTS)
        seen.add(query_id, lambda what: record.error(what, "id"))
        return Example(query, answers, positives, hard, negatives)

    return parsed(json_array(path), parse, skipped)


def read_triplets(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The questions with their answers and the ids of their positive passages."""
    for example in read_examples(path, skipped=skipped):
        ids = dict.fromkeys(passage.id for passage in example.positives)
        yield Triplet(example.query, example.answers, tuple(ids))


def read_contexts(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """Every passage that a training file names, each id once."""
    seen: set[str] = set()
    for example in read_examples(path, skipped=skipped):
        for passage in (*example.positives, *example.hard_negatives, *example.negatives):
            if passage.id not in seen:
                seen.add(passage.id)
                metadata = {k: v for k, v in passage.metadata.items() if k not in ("score", "title_score")}
                yield Document(passage.id, passage.text, passage.title, metadata)


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write a training file, as `read_examples` reads it."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        out.write("[")
        for number, example in enumerate(examples):
            row = {
                "id": example.query.id,
                "question": example.query.text,
                "answers": list(example.answers),
                "positive_ctxs": [_row(passage) for passage in example.positives],
                "negative_ctxs": [_row(passage) for passage in example.negatives],
                "hard_negative_ctxs": [_row(passage) for passage in example.hard_negatives],
            }
            out.write((",\n" if number else "\n") + json.dumps(row, ensure_ascii=False, allow_nan=False))
        out.write("\n]\n")


def read_passages(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The passages of ``psgs_w100.tsv`` or a file like it, one at a time.

    Raises:
        FormatError: the header is missing.
        RecordError: a bad row, unless ``skipped`` collects them.
    """
    path = Path(path)
    seen = SeenIds("passage id")
    first = next(raw_lines(path), (1, b""))
    if tuple(first[1].split(b"\t")) != tuple(name.encode() for name in HEADER):
        raise FormatError("a file of passages needs the header 'id<tab>text<tab>title' in its first line", where=path)

    def parse(row: tuple[int, list[str] | RecordError]) -> Document:
        number, columns = row
        if isinstance(columns, RecordError):
            raise columns
        if len(columns) != len(HEADER):
            raise RecordError(f"expected 3 columns, id, text and title; got {len(columns)}", path=path, line=number)
        passage_id, text, title = columns
        check_id(passage_id, lambda what: RecordError(what, path=path, line=number, field="id"))
        for name, value in (("text", text), ("title", title)):
            check_text(value, lambda what, name=name: RecordError(what, path=path, line=number, field=name))  # type: ignore[misc]
        if not text.strip() and not title.strip():
            raise RecordError("the passage has neither text nor title", path=path, line=number, field="text")
        seen.add(passage_id, lambda what: RecordError(what, path=path, line=number, field="id"))
        return Document(passage_id, text, title)

    return parsed(_rows(path), parse, skipped)


def write_passages(path: str | Path, documents: Iterable[Document]) -> None:
    """Write passages with id, text and title, as `read_passages` reads them; metadata is not part of this format."""
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as out:
        out.write("\t".join(HEADER) + "\n")
        for item in documents:
            out.write("\t".join(map(_field, (item.id, item.text, item.title))) + "\n")


def _field(value: str) -> str:
    # Python's own CSV writer leaves a lone carriage return unquoted in some versions.
    if any(mark in value for mark in '"\t\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _children(record: Record, name: str) -> Iterator[Record]:
    _, values = record.items(name)
    return (record.child(value, f"{name}[{i}]") for i, value in enumerate(values))


def _context(record: Record) -> Document:
    text, title = record.text("text", default=""), record.text("title", default="")
    if not text.strip() and not title.strip():
        raise record.error("the passage has neither text nor title", "text")
    name = record.name_of(_CONTEXT_ID)
    if name is not None:
        passage_id = record.identifier(name)
    else:
        passage_id = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=10).hexdigest()
    used = {"text", "title", name}
    metadata = {
        record.checked_text(key, "(field name)"): record.plain(key, value)
        for key, value in record.value.items()
        if key not in used
    }
    return Document(passage_id, text, title, metadata)


def _row(passage: Document) -> dict[str, object]:
    return {**passage.metadata, "title": passage.title, "text": passage.text, "passage_id": passage.id}


def _rows(path: Path) -> Iterator[tuple[int, list[str] | RecordError]]:
    """Rows after the header with the number of their first line; a quoted field may run over several lines."""
    lines = islice(raw_lines(path, keep_returns=True), 1, None)
    ahead: deque[tuple[int, bytes]] = deque()
    while True:
        taken = [ahead.popleft()] if ahead else list(islice(lines, 1))
        if not taken:
            return
        number, data = taken[0]
        if not data.strip():
            continue
        try:
            line = decoded(data, path, number)
        except RecordError as error:
            yield number, error
            continue
        if '"' not in line:
            yield number, line.removesuffix("\r").split("\t")
            continue
        row, used = _quoted(path, taken, ahead, lines)
        # Lines that a broken quotation did not use up are rows of their own.
        ahead.extendleft(reversed(taken[used:]))
        yield number, row


def _quoted(
    path: Path, taken: list[tuple[int, bytes]], ahead: deque[tuple[int, bytes]], lines: Iterator[tuple[int, bytes]]
) -> tuple[list[str] | RecordError, int]:
    """Parse a row with quotes, taking more lines while a quotation is open; returns it and how many lines it used."""
    number = taken[0][0]
    while True:
        try:
            text = "\n".join(decoded(data, path, at) for at, data in taken)
            rows = list(csv.reader([text], delimiter="\t", strict=True))
            return rows[0], len(taken)
        except RecordError as error:
            return error, 1
        except csv.Error as error:
            more = [ahead.popleft()] if ahead else list(islice(lines, 1))
            taken.extend(more)
            if not more or len(taken) > _ROW_LINES or "unexpected end" not in str(error):
                return (
                    RecordError(
                        f"the quotes of this row are broken ({error})",
                        path=path,
                        line=number,
                        mend='A field that begins with a quote ends with one, and quotes inside are doubled (""); '
                        "or pass --skip-bad to leave it out",
                    ),
                    1,
                )
