"""SQuAD's official JSON (v1.1 and v2.0): paragraphs as documents, questions as triplets.

Paragraphs are numbered per article title in the file's order, from 0: ``<article>#<paragraph>``. The file is read
whole (the largest official one has 42 MB); records are then handed out one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from retgen.errors import RecordError
from retgen.formats.lines import parse_json, read_text
from retgen.formats.records import Record, SeenIds, Skipped
from retgen.types import Document, Query, Triplet


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The paragraphs, titled as their article (``"Super_Bowl_50"`` is shown as "Super Bowl 50").

    A paragraph that is left out keeps its number, so that ids do not depend on what was skipped.

    Raises:
        RecordError: a bad article or paragraph, unless ``skipped`` collects them.
    """
    for document, _ in _paragraphs(Path(path), skipped):
        yield document


def read_questions(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The questions with their answers as annotated (v2.0's unanswerable ones have none) and their paragraph's id.

    Raises:
        RecordError: a bad article, paragraph or question, unless ``skipped`` collects them.
    """
    seen = SeenIds("question id")
    for document, paragraph in _paragraphs(Path(path), skipped):
        try:
            name, questions = paragraph.items("qas", required=True)
        except RecordError as error:
            _report(error, skipped)
            continue
        for number, value in enumerate(questions):
            try:
                triplet = _question(paragraph.child(value, f"{name}[{number}]"), document.id, seen)
            except RecordError as error:
                _report(error, skipped)
                continue
            yield triplet


def _report(error: RecordError, skipped: Skipped | None) -> None:
    if skipped is None:
        raise error
    skipped.add(error)


def _question(record: Record, doc_id: str, seen: SeenIds) -> Triplet:
    query = Query(record.identifier("id"), record.filled_text("question"))
    name, values = record.items("answers")
    answers = [record.child(value, f"{name}[{number}]") for number, value in enumerate(values)]
    triplet = Triplet(query, tuple(answer.text("text") for answer in answers), (doc_id,))
    seen.add(query.id, lambda what: record.error(what, "id"))
    return triplet


def _paragraphs(path: Path, skipped: Skipped | None) -> Iterator[tuple[Document, Record]]:
    whole = Record(parse_json(read_text(path), path), path, None)
    numbers: dict[str, int] = {}
    _, articles = whole.items("data", required=True)
    for position, value in enumerate(articles):
        try:
            article = Record(value, path, position + 1, f"data[{position}]")
            title = article.checked_id(article.filled_text("title").strip(), "title")
            name, paragraphs = article.items("paragraphs", required=True)
        except RecordError as error:
            _report(error, skipped)
            continue
        stem = "_".join(title.split())
        for inner, paragraph in enumerate(paragraphs):
            number = numbers.get(stem, 0)
            numbers[stem] = number + 1
            try:
                record = article.child(paragraph, f"{name}[{inner}]")
                text = record.filled_text("context")
            except RecordError as error:
                _report(error, skipped)
                continue
            yield Document(f"{stem}#{number}", text, _shown(title)), record


def _shown(title: str) -> str:
    plain = unquote(title, errors="replace").replace("_", " ").strip()
    return plain.replace("\0", " ") or title
