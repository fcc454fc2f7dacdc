"""LangChain: a retriever over an index or a pipeline, and a compressor that re-ranks (package langchain-core)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import PrivateAttr

from retgen.errors import MissingExtraError
from retgen.integrations.finding import Filter, Finder, Passage
from retgen.integrations.ordering import Orderer, titled

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise MissingExtraError("langchain-core", "integrations") from error


class RetgenRetriever(BaseRetriever):
    """Finds passages: a LangChain `BaseRetriever`.

    ``page_content`` is a passage's text, ``id`` its id; ``metadata`` holds its own and ``doc_id``, ``title``, ``rank``,
    ``score``, ``components`` and, behind an answerer, ``citation``, see `retgen.integrations.finding.Passage`.

    Args:
        source: an `Index`, the path of one, or a `Pipeline`.
        k: passages for a question; ``invoke(question, k=…)`` overrides it.
        retriever: of the index, ``bm25`` unless told; a pipeline has its own.
        candidates: passages that a pipeline's re-rankers order, 100 unless told.
        filter: keeps passages of an index: values that their metadata must have, or a function of the document;
            ``invoke(question, filter=…)`` overrides it.

    Raises:
        UsageError: see `retgen.integrations.finding.Finder`.

    Example::

        retriever = RetgenRetriever(source="my-index", k=4)
        retriever.invoke("who discovered oxygen?")[0].page_content
    """

    source: Any
    k: int = 4
    retriever: str | None = None
    candidates: int | None = None
    filter: Any = None
    _finder: Finder = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open what is searched."""
        super().model_post_init(context)
        self._finder = Finder(self.source, k=self.k, retriever=self.retriever, candidates=self.candidates)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter = None,
    ) -> list[Document]:
        found = self._finder.find(query, k or self.k, filter=filter if filter is not None else self.filter)
        return [as_langchain(passage) for passage in found.passages]


class RetgenCompressor(BaseDocumentCompressor):
    """Orders documents by a re-ranker and keeps the best: a LangChain `BaseDocumentCompressor`.

    The documents are copies; their metadata gain ``rank``, ``score``, ``components``. A ``score`` they came with rides
    along as ``components["first_stage"]`` where all have one.

    Args:
        reranker: any re-ranker, e.g. a `CrossEncoder`; see also `retgen.integrations.ordering.open_reranker`.
        top_n: keep so many; all unless told.
        title_field: of the metadata, read as the passage's title; None reads the text alone.

    Raises:
        UsageError: it is no re-ranker, or ``top_n`` is below 1.
    """

    reranker: Any
    top_n: int | None = None
    title_field: str | None = "title"
    _orderer: Orderer = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the re-ranker."""
        super().model_post_init(context)
        self._orderer = Orderer(self.reranker)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best documents, best first."""
        texts = [titled(each.page_content, each.metadata, self.title_field) for each in documents]
        scores = [_number(each.metadata.get("score")) for each in documents]
        placed = self._orderer.order(query, texts, self.top_n, scores=scores)
        return [
            documents[each.number].model_copy(update={"metadata": {**documents[each.number].metadata, **each.metadata}})
            for each in placed
        ]


def as_langchain(passage: Passage) -> Document:
    """A passage as LangChain's document."""
    return Document(page_content=passage.document.text, id=passage.document.id, metadata=passage.metadata)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
