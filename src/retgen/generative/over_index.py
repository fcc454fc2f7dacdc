"""A trained UniGen over an index: the writer whose contexts it was trained on is built again from the index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retgen.connect.offline import OfflineWriter
from retgen.connect.terms import TermWeights
from retgen.connect.writer import Writer
from retgen.docids.table import DocidTable
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.pipeline import SearchableSource
from retgen.types import DocumentFilter, DocumentSource, Query, Retriever, Run

BM25_CONTEXT = "offline:bm25-context"
"""What `UniGenSettings.context` says of a model that reads the offline writer's contexts."""


def open_unigen(
    path: str | Path,
    index: SearchableSource,
    *,
    device: str = "auto",
    filter: DocumentFilter | None = None,
    writer: Writer | None = None,
) -> UniGen:
    """Open a trained model over the index of the corpus it was trained on.

    Args:
        path: a model folder, as ``retgen train unigen`` writes it.
        index: its corpus and BM25 give the contexts of questions that come without one.
        device: ``auto``, ``cpu``, ``cuda``…
        filter: keeps documents by their metadata; reads all of them once. No other is found, nor quoted in a context,
            so that no other can be read out of an answer.
        writer: a language model, for a model that was trained on its connectors. Others bring their own.

    Returns:
        The system, with a writer where its model reads contexts.

    Raises:
        ArtefactError: the folder is torn, foreign or of another kind.
        MismatchError: it was trained on another corpus than the index'.
        UsageError: its contexts are by a writer that an index does not have, or one was given that it does not read.

    Example:
        ``open_unigen("my-model", Index.open("my-index")).search_and_answer([Query("q", "who discovered oxygen?")])``
    """
    fingerprint = getattr(index.corpus, "fingerprint", None)
    system = UniGen.open(path, corpus_fingerprint=fingerprint, device=device)
    if filter is not None:
        table = system.table
        documents = (index.corpus[table.doc_id(number)] for number in table.present)
        system = system.only(document.id for document in documents if filter(document))
    if writer is not None:
        if system.settings.context in ("", BM25_CONTEXT):
            reads = "contexts made by BM25" if system.settings.context else "plain questions"
            raise UsageError(
                f"this model reads {reads}, not what {writer.name!r} writes",
                where=path,
                mend="Leave the writer out, or use a model that was trained on a language model's connectors",
            )
        system.writer = writer
    elif system.settings.context == BM25_CONTEXT:
        retriever = index.retriever("bm25")
        system.writer = bm25_context_writer(
            system.table,
            retriever if filter is None else _Filtered(retriever, filter),
            index.corpus,
            settings=system.settings,
        )
    elif system.settings.context:
        raise UsageError(
            f"this model reads contexts written by {system.settings.context!r}, which an index cannot write",
            where=path,
            mend="Name that writer (retgen ask --writer), or use a model of retgen train unigen",
        )
    return system


class _Filtered:
    """An index' BM25, which takes filters, with one."""

    def __init__(self, retriever: Any, filter: DocumentFilter) -> None:
        self._retriever, self._filter = retriever, filter

    def search(self, queries: Sequence[Query], k: int = 100) -> Run:
        """The best ``k`` documents of every query that the filter keeps."""
        found: Run = self._retriever.search(queries, k, filter=self._filter)
        return found


def bm25_context_writer(
    table: DocidTable, retriever: Retriever, documents: DocumentSource, *, settings: UniGenSettings
) -> OfflineWriter:
    """The writer of "BM25 context" over the documents of a docid table, which gives the docids that blocks open with.

    Args:
        table: of the corpus; reads all its documents once, to weigh words.
        retriever: BM25, for the label to be true.
        documents: the corpus.
        settings: how many passages a context quotes and lists.
    """
    numbers = table.present.tolist()
    weights = TermWeights.from_documents(documents[table.doc_id(number)] for number in numbers)
    texts = {table.doc_id(number): table.text(number) for number in numbers}
    return OfflineWriter(
        retriever,
        documents,
        texts,
        weights=weights,
        passages=settings.context_passages,
        listed=settings.context_listed,
    )
