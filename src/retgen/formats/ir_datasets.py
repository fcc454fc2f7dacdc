"""Collections of the package ir_datasets, by their id: documents, queries and judgements."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from retgen.errors import FormatError, MissingExtraError, RecordError
from retgen.formats.records import Skipped, check_id, check_text, parsed
from retgen.types import Document, Qrels, Query

PREFIX = "ir_datasets:"


def read_documents(source: str, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of a collection.

    Raises:
        MissingExtraError: the package is not installed.
        FormatError: it knows no such collection, or the collection has no documents.
        RecordError: a bad document, unless ``skipped`` collects them.
    """
    dataset = _load(source, "docs")

    def parse(numbered: tuple[int, Any]) -> Document:
        number, item = numbered
        title = str(getattr(item, "title", "") or "")
        text = getattr(item, "text", None) or getattr(item, "body", None)
        if text is None:
            text = item.default_text()
        document = Document(str(item.doc_id), str(text), title)
        _check(source, number, document.id, title, document.text)
        if not document.contents:
            raise RecordError("the document has neither text nor title", path=source, line=number, field="text")
        return document

    return parsed(enumerate(dataset.docs_iter(), start=1), parse, skipped)


def read_queries(source: str, *, skipped: Skipped | None = None) -> Iterator[Query]:
    """The queries of a collection.

    Raises:
        MissingExtraError: the package is not installed.
        FormatError: it knows no such collection, or the collection has no queries.
        RecordError: a bad query, unless ``skipped`` collects them.
    """
    dataset = _load(source, "queries")

    def parse(numbered: tuple[int, Any]) -> Query:
        number, item = numbered
        query = Query(str(item.query_id), str(item.default_text()))
        _check(source, number, query.id, query.text)
        if not query.text.strip():
            raise RecordError("this text is empty", path=source, line=number, field="text")
        return query

    return parsed(enumerate(dataset.queries_iter(), start=1), parse, skipped)


def read_qrels(source: str) -> Qrels:
    """The judgements of a collection.

    Raises:
        MissingExtraError: the package is not installed.
        FormatError: it knows no such collection, or the collection has no judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    for item in _load(source, "qrels").qrels_iter():
        qrels.setdefault(str(item.query_id), {})[str(item.doc_id)] = int(item.relevance)
    return qrels


def _load(source: str, part: str) -> Any:
    try:
        package = importlib.import_module("ir_datasets")
    except ImportError as error:
        raise MissingExtraError("ir_datasets", "integrations") from error
    name = source.removeprefix(PREFIX)
    try:
        dataset = package.load(name)
    except KeyError as error:
        raise FormatError(f"ir_datasets knows no collection {name!r}", where=source) from error
    if not getattr(dataset, f"has_{part}")():
        raise FormatError(f"this collection has no {part}", where=source, mend="Give the id of one that has")
    return dataset


def _check(source: str, number: int, identifier: str, *texts: str) -> None:
    check_id(identifier, lambda what: RecordError(what, path=source, line=number, field="id"))
    for text in texts:
        check_text(text, lambda what: RecordError(what, path=source, line=number, field="text"))
