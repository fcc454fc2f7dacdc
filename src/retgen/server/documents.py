"""`/v1/documents`: listing and reading the documents of an index, and changing them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retgen.errors import RetgenError, UnknownDocumentError
from retgen.index import FixedIndexError
from retgen.server.failures import RequestError
from retgen.server.parts import Parts
from retgen.server.requests import NewDocument
from retgen.server.responses import (
    AddResponse,
    DeleteResponse,
    DocumentList,
    DocumentResponse,
    DocumentSummary,
    PassagePlace,
)
from retgen.types import Document

_SNIPPET = 200
_CHUNK_FIELDS = ("document", "start", "end")


@dataclass(frozen=True, slots=True)
class AddJob:
    """Documents to add, all or none."""

    documents: tuple[Document, ...]
    replace: bool


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """A document to remove."""

    doc_id: str


def as_document(new: NewDocument) -> Document:
    """A document as it will be stored; one without an id gets a random one."""
    return Document(new.id or f"document-{uuid.uuid4().hex}", new.text, new.title, dict(new.metadata))


def check_changeable(parts: Parts) -> None:
    """Refuse changes that this server cannot make.

    Raises:
        RequestError: it is read-only.
        FixedIndexError: a part takes no additions or removals.
    """
    reason = parts.cannot_change
    if reason is None:
        return
    if parts.settings.read_only:
        raise RequestError(403, "read_only", reason, mend="Start it without --read-only")
    raise FixedIndexError(reason, mend="Build the index again from all documents, and train the model on it")


def change(
    parts: Parts, jobs: Sequence[AddJob | RemoveJob]
) -> tuple[Parts, list[AddResponse | DeleteResponse | RetgenError]]:
    """Make a batch of changes in their order, with one writing of the index.

    Returns:
        The parts over the changed index, and one response or error for each job.

    Raises:
        RetgenError: the batch as a whole could not be written; nothing was changed.
    """
    plan = _Plan(parts)
    done = [plan.add(job) if isinstance(job, AddJob) else plan.remove(job) for job in jobs]
    if plan.added or plan.removed:
        parts = parts.over(parts.index.change(plan.added.values(), plan.removed))
    count = parts.document_count
    return parts, [
        item if isinstance(item, RetgenError) else item.model_copy(update={"documents": count}) for item in done
    ]


class _Plan:
    """What changes together come to: what is there to be added in the end, and what of the index is to go."""

    def __init__(self, parts: Parts) -> None:
        self.added: dict[str, Document] = {}
        self.removed: set[str] = set()
        self._index = parts.index
        self._left = parts.document_count

    def add(self, job: AddJob) -> AddResponse | RetgenError:
        ids = [document.id for document in job.documents]
        twice = next((doc_id for place, doc_id in enumerate(ids) if doc_id in ids[:place]), None)
        if twice is not None:
            return RequestError(422, "invalid_request", f"the id {twice!r} comes twice", where="documents")
        there = [doc_id for doc_id in ids if self._holds(doc_id)]
        if there and not job.replace:
            return RequestError(
                409,
                "conflict",
                f"there is a document with id {there[0]!r} already",
                where="documents",
                mend='Choose another id, or send "replace": true',
            )
        for doc_id in there:
            self._take_out(doc_id)
        for document in job.documents:
            self.added[document.id] = document
        self._left += len(ids)
        return AddResponse(added=[doc_id for doc_id in ids if doc_id not in there], replaced=there, documents=0)

    def remove(self, job: RemoveJob) -> DeleteResponse | RetgenError:
        if not self._holds(job.doc_id):
            return UnknownDocumentError(job.doc_id)
        if self._left == 1:
            return RequestError(
                409, "conflict", "no document would be left, and an index needs one", mend="Add another one first"
            )
        self._take_out(job.doc_id)
        return DeleteResponse(removed=job.doc_id, documents=0)

    def _holds(self, doc_id: str) -> bool:
        return doc_id in self.added or (doc_id not in self.removed and self._index.holds(doc_id))

    def _take_out(self, doc_id: str) -> None:
        if self.added.pop(doc_id, None) is None:
            self.removed.add(doc_id)
        self._left -= 1


def list_documents(parts: Parts, offset: int, limit: int) -> DocumentList:
    """A page of the documents, in the order of the index."""
    total = parts.document_count
    end = min(total, offset + limit)
    rows = []
    for number in range(offset, end):
        doc_id, first = parts.document_at(number)
        passage = parts.index.corpus.at(first)
        cut = len(passage.text) > _SNIPPET
        rows.append(
            DocumentSummary(
                id=doc_id,
                title=passage.title,
                snippet=passage.text[:_SNIPPET] + ("…" if cut else ""),
                characters=None if parts.index.corpus.chunked else len(passage.text),
                metadata=_metadata(parts, passage),
            )
        )
    return DocumentList(documents=rows, total=total, offset=offset, next_offset=end if end < total else None)


def get_document(parts: Parts, doc_id: str) -> DocumentResponse:
    """A document whole, by its id or by that of one of its chunks.

    Raises:
        UnknownDocumentError: there is none.
    """
    corpus = parts.index.corpus
    if not corpus.chunked:
        document = corpus[doc_id]
        place = PassagePlace(passage_id=document.id, start=0, end=len(document.text))
        return DocumentResponse(
            id=document.id,
            title=document.title,
            text=document.text,
            metadata=dict(document.metadata),
            passages=[place],
        )
    if not parts.index.holds(doc_id):
        doc_id = corpus.document_id(doc_id)
    number = corpus.number(f"{doc_id}::0")
    chunks = [corpus.at(number)]
    while number + len(chunks) < len(corpus) and corpus.document_id(corpus.ids[number + len(chunks)]) == doc_id:
        chunks.append(corpus.at(number + len(chunks)))
    return DocumentResponse(
        id=doc_id,
        title=chunks[0].title,
        text=_joined(chunks),
        metadata=_metadata(parts, chunks[0]),
        passages=[
            PassagePlace(passage_id=chunk.id, start=_place(chunk, "start"), end=_place(chunk, "end"))
            for chunk in chunks
        ],
    )


def _joined(chunks: Sequence[Document]) -> str:
    """Chunks where they stood; where nothing is known of what stood between two, spaces."""
    text = ""
    for chunk in chunks:
        start = _place(chunk, "start")
        text = text[:start].ljust(start) + chunk.text
    return text


def _place(chunk: Document, name: str) -> int:
    value: Any = chunk.metadata[name]
    return int(value)


def _metadata(parts: Parts, passage: Document) -> dict[str, object]:
    """The document's own, without what the chunks' adds."""
    own = dict(passage.metadata)
    if parts.index.corpus.chunked:
        for name in _CHUNK_FIELDS:
            own.pop(name, None)
    return own
