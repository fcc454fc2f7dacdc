"""LlamaIndex: a retriever over an index or a pipeline, and a node postprocessor (package llama-index-core)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from retgen.errors import MissingExtraError, UsageError
from retgen.index import Index
from retgen.integrations.finding import Filter, Finder, Passage
from retgen.integrations.ordering import Orderer, titled
from retgen.pipeline import Pipeline

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError("llama-index-core", "integrations") from error

_NOT_FOR_MODELS = ["doc_id", "rank", "score", "components", "citation"]
"""Metadata that language and embedding models are not shown beside a node's text."""


class RetgenRetriever(BaseRetriever):
    """Finds passages: a LlamaIndex `BaseRetriever`.

    A node's text is the passage's, ``node_id`` its id; ``metadata`` holds its own and ``doc_id``, ``title``, ``rank``,
    ``score``, ``components`` and, behind an answerer, ``citation``, see `retgen.integrations.finding.Passage`. Of
    these, models are shown the passage's own and the title.

    Args:
        source: an `Index`, the path of one, or a `Pipeline`.
        k: passages for a question.
        retriever: of the index, ``bm25`` unless told; a pipeline has its own.
        candidates: passages that a pipeline's re-rankers order, 100 unless told.
        filter: keeps passages of an index: values that their metadata must have, or a function of the document.
        options: of LlamaIndex' own class, e.g. ``callback_manager``.

    Raises:
        UsageError: see `retgen.integrations.finding.Finder`.

    Example::

        RetgenRetriever("my-index", k=4).retrieve("who discovered oxygen?")[0].text
    """

    def __init__(
        self,
        source: Index | Pipeline | str | Path,
        *,
        k: int = 4,
        retriever: str | None = None,
        candidates: int | None = None,
        filter: Filter = None,
        **options: Any,
    ) -> None:
        self._finder = Finder(source, k=k, retriever=retriever, candidates=candidates)
        self._filter = filter
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._finder.find(query_bundle.query_str, filter=self._filter)
        return [as_node(passage) for passage in found.passages]


class RetgenReranker(BaseNodePostprocessor):
    """Orders nodes by a re-ranker and keeps the best: a LlamaIndex `BaseNodePostprocessor`.

    The nodes are copies; their metadata gain ``rank``, ``score``, ``components``. Scores they came with ride along as
    ``components["first_stage"]`` where all have one.

    Args:
        reranker: any re-ranker, e.g. a `CrossEncoder`; see also `retgen.integrations.ordering.open_reranker`.
        top_n: keep so many; all unless told.
        title_field: of the metadata, read as the passage's title; None reads the text alone.

    Raises:
        UsageError: it is no re-ranker, ``top_n`` is below 1, or nodes came without a question.
    """

    reranker: Any
    top_n: int | None = None
    title_field: str | None = "title"
    _orderer: Orderer = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the re-ranker."""
        super().model_post_init(context)
        self._orderer = Orderer(self.reranker)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex shows."""
        return "RetgenReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise UsageError("nodes are ordered for a question, and there is none", mend="Give query_str=…")
        texts = [titled(each.node.get_content(), each.node.metadata, self.title_field) for each in nodes]
        scores = [each.score for each in nodes]
        made = []
        for placed in self._orderer.order(query_bundle.query_str, texts, self.top_n, scores=scores):
            node = nodes[placed.number].node.model_copy()
            node.metadata = {**node.metadata, **placed.metadata}
            for hidden in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys"):
                setattr(node, hidden, [*dict.fromkeys([*getattr(node, hidden), *placed.metadata])])
            made.append(NodeWithScore(node=node, score=placed.score))
        return made


def as_node(passage: Passage) -> NodeWithScore:
    """A passage as LlamaIndex' node with its score."""
    node = TextNode(
        text=passage.document.text,
        id_=passage.document.id,
        metadata=passage.metadata,
        excluded_llm_metadata_keys=list(_NOT_FOR_MODELS),
        excluded_embed_metadata_keys=list(_NOT_FOR_MODELS),
    )
    return NodeWithScore(node=node, score=passage.hit.score)
