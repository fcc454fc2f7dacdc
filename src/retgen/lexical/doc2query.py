"""DocT5Query: documents with the questions they could be asked written behind their text, for BM25 to count.

Where the questions come from is `retgen.connect`'s business: a trained generator's samples, or the documents' own
statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from retgen.errors import MismatchError
from retgen.types import Document, Triplet


class ListedDocuments(Protocol):
    """A corpus, as far as it is read here: a `Corpus` is one."""

    fingerprint: str

    def at(self, number: int, /) -> Document:
        """The document with this number."""
        ...

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Document]: ...
    def __contains__(self, doc_id: object) -> bool: ...


class ExpandedDocuments:
    """A corpus whose documents are read with their pseudo queries; asked for one by number, it gives it as it is.

    It has the corpus' own fingerprint, as its hits are the corpus' documents: give it to `BM25.build`.

    Args:
        documents: the corpus.
        queries: document id → its pseudo queries, see `queries_by_document`.

    Reference:
        Nogueira and Lin, "From doc2query to docTTTTTquery", 2019.

    Example:
        >>> from retgen.corpus import Corpus
        >>> from retgen.lexical import BM25
        >>> from retgen.types import Query
        >>> corpus = Corpus.from_documents([Document("a", "Tea is hot."), Document("b", "Ice is cold.")])
        >>> bm25 = BM25.build(ExpandedDocuments(corpus, {"b": ["what is frozen water like?"]}))
        >>> bm25.search([Query("q", "frozen water")]).doc_ids("q")
        ['b']
    """

    def __init__(self, documents: ListedDocuments, queries: Mapping[str, Sequence[str]]) -> None:
        self.fingerprint = documents.fingerprint
        self._documents = documents
        self._queries = queries

    def at(self, number: int) -> Document:
        """The document with this number, without pseudo queries."""
        return self._documents.at(number)

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            queries = self._queries.get(document.id, ())
            yield replace(document, text="\n".join((document.text, *queries))) if queries else document


def queries_by_document(pseudo: Iterable[Triplet], documents: ListedDocuments) -> dict[str, list[str]]:
    """Document id → the texts of its pseudo queries, in their order.

    Raises:
        MismatchError: a query is about a document that is not there.
    """
    found: dict[str, list[str]] = {}
    for triplet in pseudo:
        for doc_id in triplet.doc_ids:
            if doc_id not in documents:
                raise MismatchError(
                    f"the pseudo query {triplet.query.id!r} is about the document {doc_id!r}, which is not there",
                    mend="Give queries made from these documents; those of a chunked index are made from the index",
                )
            found.setdefault(doc_id, []).append(triplet.query.text)
    return found
