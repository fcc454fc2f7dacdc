"""JSON lines: documents, queries and triplets, one object a line; and queries as two tab-separated columns.

Documents: ``id`` (or ``_id``), ``title``, ``text``, ``metadata``; any other field joins the metadata. Queries: an id
and ``text``. Triplets: ``question``, ``answers``, ``doc_ids`` (or ``positives``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from retgen.errors import RecordError
from retgen.formats.lines import decoded, raw_lines
from retgen.formats.records import Record, SeenIds, Skipped, check_id, check_text, json_lines, parsed
from retgen.store import atomic_file
from retgen.types import Document, Query, Triplet

ID = ("_id", "id")
QUERY_ID = ("_id", "id", "qid", "query_id", "question_id")
TEXT = ("text", "contents")
QUESTION = ("question", "text", "query")
ANSWERS = ("answers", "answer")
DOC_IDS = ("doc_ids", "positives", "positive_ids")
_HEADER_ID = {"id", "_id", "qid", "query_id", "query-id"}
_HEADER_TEXT = {"text", "query", "question"}


def document_of(record: Record) -> Document:
    """A document from one object.

    Raises:
        RecordError: no id, wrong types, or neither text nor title.
    """
    text, title = record.text(*TEXT, default=""), record.text("title", default="")
    if not text.strip() and not title.strip():
        raise record.error("the document has neither text nor title", "text")
    used = {*ID, "title", "metadata", record.name_of(TEXT) or "text"}
    metadata = {
        record.checked_text(name, "(field name)"): record.plain(name, value)
        for name, value in record.value.items()
        if name not in used
    }
    if record.value.get("metadata") is not None:
        inner = record.child(record.value["metadata"], "metadata")
        for name, value in inner.value.items():
            metadata[inner.checked_text(name, "(field name)")] = inner.plain(name, value)
    return Document(record.identifier(*ID), text, title, metadata)


def query_of(record: Record) -> Query:
    """A query from one object."""
    return Query(record.identifier(*QUERY_ID), record.filled_text("text", "question", "query"))


def triplet_of(record: Record) -> Triplet:
    """A triplet from one object; answers or documents may be missing, not both."""
    if record.name_of((*ANSWERS, *DOC_IDS)) is None:
        raise record.error("there are neither 'answers' nor 'doc_ids'", "answers")
    query = Query(record.identifier(*QUERY_ID), record.filled_text(*QUESTION))
    return Triplet(query, record.texts(*ANSWERS), record.ids(*DOC_IDS))


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of a JSONL file.

    Raises:
        RecordError: a bad record, unless ``skipped`` collects them.
    """
    seen = SeenIds("document id")

    def parse(record: Record) -> Document:
        document = document_of(record)
        seen.add(document.id, lambda what: record.error(what, "id"))
        return document

    return parsed(json_lines(Path(path), skipped), parse, skipped)


def read_queries(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Query]:
    """The queries of a JSONL file.

    Raises:
        RecordError: a bad record, unless ``skipped`` collects them.
    """
    seen = SeenIds("query id")

    def parse(record: Record) -> Query:
        query = query_of(record)
        seen.add(query.id, lambda what: record.error(what, "id"))
        return query

    return parsed(json_lines(Path(path), skipped), parse, skipped)


def read_triplets(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The triplets of a JSONL file.

    Raises:
        RecordError: a bad record, unless ``skipped`` collects them.
    """
    seen = SeenIds("question id")

    def parse(record: Record) -> Triplet:
        triplet = triplet_of(record)
        seen.add(triplet.query.id, lambda what: record.error(what, "id"))
        return triplet

    return parsed(json_lines(Path(path), skipped), parse, skipped)


def read_query_table(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Query]:
    """Queries from two tab-separated columns, id and text, with or without a header; nothing is quoted.

    Raises:
        RecordError: a bad line, unless ``skipped`` collects them.
    """
    path = Path(path)
    seen = SeenIds("query id")

    def parse(raw: tuple[int, bytes]) -> Query | None:
        number, data = raw
        line = decoded(data, path, number)
        if not line.strip():
            return None

        columns = line.split("\t")
        if len(columns) != 2:
            raise RecordError(
                f"expected two columns, id and text, with one tab between them; got {len(columns)}",
                path=path,
                line=number,
            )
        query_id, text = columns
        if number == 1 and query_id.lower() in _HEADER_ID and text.lower() in _HEADER_TEXT:
            return None
        check_id(query_id, lambda what: RecordError(what, path=path, line=number, field="id"))
        check_text(text, lambda what: RecordError(what, path=path, line=number, field="text"))
        if not text.strip():
            raise RecordError("this text is empty", path=path, line=number, field="text")
        seen.add(query_id, lambda what: RecordError(what, path=path, line=number, field="id"))
        return Query(query_id, text)

    return parsed(raw_lines(path), parse, skipped)


def write_documents(path: str | Path, documents: Iterable[Document]) -> None:
    """Write documents as JSONL, as `read_documents` reads them."""
    _write(
        path,
        (
            {"_id": item.id, "title": item.title, "text": item.text, "metadata": dict(item.metadata)}
            for item in documents
        ),
    )


def write_queries(path: str | Path, queries: Iterable[Query]) -> None:
    """Write queries as JSONL; connectors are not part of this format."""
    _write(path, ({"_id": item.id, "text": item.text} for item in queries))


def write_triplets(path: str | Path, triplets: Iterable[Triplet]) -> None:
    """Write triplets as JSONL, as `read_triplets` reads them."""
    _write_lines(path, map(triplet_line, triplets))


def triplet_line(triplet: Triplet) -> str:
    """A triplet as one line of JSON, without its end."""
    row = {
        "id": triplet.query.id,
        "question": triplet.query.text,
        "answers": list(triplet.answers),
        "doc_ids": list(triplet.doc_ids),
    }
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _write(path: str | Path, rows: Iterable[dict[str, object]]) -> None:
    _write_lines(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows))


def _write_lines(path: str | Path, lines: Iterable[str]) -> None:
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)
