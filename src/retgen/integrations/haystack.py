"""Haystack: a retriever component over an index or a pipeline, and a ranker component (package haystack-ai)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from retgen import types
from retgen.errors import MissingExtraError, UsageError
from retgen.index import Index
from retgen.integrations.finding import Finder, Passage
from retgen.integrations.ordering import Orderer, open_reranker, titled
from retgen.pipeline import Pipeline

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils.filters import document_matches_filter
except ImportError as error:
    raise MissingExtraError("haystack-ai", "integrations") from error


@component
class RetgenRetriever:
    """Finds passages: a Haystack component with the output ``documents``.

    A document's ``content`` is the passage's text, ``id`` its id, ``score`` its score; ``meta`` holds its own and
    ``doc_id``, ``title``, ``rank``, ``score``, ``components`` and, behind an answerer, ``citation``, see
    `retgen.integrations.finding.Passage`.

    Args:
        source: the path of an index, which is opened when the pipeline warms up; or an `Index`, or a `Pipeline`.
        top_k: passages for a question.
        retriever: of the index, ``bm25`` unless told; a pipeline has its own.
        candidates: passages that re-rankers order, 100 unless told.
        filters: Haystack's, e.g. ``{"field": "meta.kind", "operator": "==", "value": "country"}``; for an index alone.
        cross_encoder: re-rank what the index found by this model, a folder or hub id.
        generator: and by this one; by both it is JPR.
        generator_weight: λ of JPR's Eq. 3, the generator's share.
        device: of these models.

    Raises:
        UsageError: see `retgen.integrations.finding.Finder`; or models named beside a pipeline.

    Example::

        pipeline = haystack.Pipeline()
        pipeline.add_component("retriever", RetgenRetriever("my-index", top_k=4))
        pipeline.run({"retriever": {"query": "who discovered oxygen?"}})["retriever"]["documents"]
    """

    def __init__(
        self,
        source: Index | Pipeline | str | Path,
        *,
        top_k: int = 10,
        retriever: str | None = None,
        candidates: int | None = None,
        filters: dict[str, Any] | None = None,
        cross_encoder: str | None = None,
        generator: str | None = None,
        generator_weight: float = 0.5,
        device: str = "auto",
    ) -> None:
        self.source = source
        self.top_k = top_k
        self.retriever = retriever
        self.candidates = candidates
        self.filters = filters
        self.cross_encoder = cross_encoder
        self.generator = generator
        self.generator_weight = generator_weight
        self.device = device
        self._finder: Finder | None = None

    def warm_up(self) -> None:
        """Open the index and the models; once."""
        self._opened()

    def to_dict(self) -> dict[str, Any]:
        """What Haystack writes into a pipeline's file.

        Raises:
            UsageError: it searches a pipeline made in Python.
        """
        if isinstance(self.source, Pipeline):
            raise UsageError(
                "a retgen pipeline made in Python cannot be written into a file",
                mend="Give the index' path, and cross_encoder and generator by their names",
            )
        return dict(
            default_to_dict(
                self,
                source=str(self.source.path if isinstance(self.source, Index) else self.source),
                top_k=self.top_k,
                retriever=self.retriever,
                candidates=self.candidates,
                filters=self.filters,
                **_models(self),
            )
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RetgenRetriever:
        """The component that `to_dict` described."""
        made: RetgenRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None) -> dict[str, Any]:
        """The best passages for a question.

        Args:
            query: the question.
            top_k: so many; the component's own by default.
            filters: in the place of the component's own.

        Raises:
            UsageError: ``top_k`` below 1, or filters for a pipeline.
        """
        wanted = self.filters if filters is None else filters

        def keep(document: types.Document) -> bool:
            return document_matches_filter(wanted or {}, _document(document))

        found = self._opened().find(query, self.top_k if top_k is None else top_k, filter=keep if wanted else None)
        return {"documents": [as_haystack(passage) for passage in found.passages]}

    def _opened(self) -> Finder:
        if self._finder is None:
            models = self.cross_encoder is not None or self.generator is not None
            then = [open_reranker(**_models(self))] if models else []
            self._finder = Finder(
                self.source, k=self.top_k, retriever=self.retriever, then=then, candidates=self.candidates
            )
        return self._finder


@component
class RetgenRanker:
    """Orders documents by a re-ranker and keeps the best: a Haystack component with the output ``documents``.

    The documents are copies with the re-ranker's ``score``; their ``meta`` gain ``rank``, ``score``, ``components``.
    Scores they came with ride along as ``components["first_stage"]`` where all have one.

    Args:
        reranker: any re-ranker made in Python; such a component cannot be written into a file. Or name models:
        cross_encoder: a folder or hub id, p(passage | query).
        generator: a folder or hub id, p(query | passage); with both it is JPR.
        generator_weight: λ of JPR's Eq. 3, the generator's share.
        top_k: keep so many; all unless told.
        title_field: of the meta, read as the passage's title; None reads the content alone.
        device: of the models.

    Raises:
        UsageError: neither a re-ranker nor a model is given, or both.
    """

    def __init__(
        self,
        reranker: types.Reranker | None = None,
        *,
        cross_encoder: str | None = None,
        generator: str | None = None,
        generator_weight: float = 0.5,
        top_k: int | None = None,
        title_field: str | None = "title",
        device: str = "auto",
    ) -> None:
        if (reranker is None) == (cross_encoder is None and generator is None):
            raise UsageError(
                "a ranker needs either a re-ranker or the names of models",
                mend="Give reranker=…, or cross_encoder=… and generator=…",
            )
        self.reranker = reranker
        self.cross_encoder = cross_encoder
        self.generator = generator
        self.generator_weight = generator_weight
        self.top_k = top_k
        self.title_field = title_field
        self.device = device
        self._orderer = Orderer(reranker) if reranker is not None else None

    def warm_up(self) -> None:
        """Open the models; once."""
        self._opened()

    def to_dict(self) -> dict[str, Any]:
        """What Haystack writes into a pipeline's file.

        Raises:
            UsageError: its re-ranker was made in Python.
        """
        if self.reranker is not None:
            raise UsageError(
                "a re-ranker made in Python cannot be written into a file",
                mend="Name its models instead: cross_encoder=…, generator=…",
            )
        return dict(default_to_dict(self, top_k=self.top_k, title_field=self.title_field, **_models(self)))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RetgenRanker:
        """The component that `to_dict` described."""
        made: RetgenRanker = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The documents, best first.

        Args:
            query: the question.
            documents: each with a text.
            top_k: keep so many; the component's own by default.

        Raises:
            UsageError: a document has no text, or ``top_k`` is below 1.
        """
        texts = []
        for each in documents:
            if each.content is None:
                raise UsageError(f"document {each.id!r} has no text to read", mend="Leave it out before the ranker")
            texts.append(titled(each.content, each.meta, self.title_field))
        placed = self._opened().order(
            query, texts, self.top_k if top_k is None else top_k, scores=[each.score for each in documents]
        )
        return {
            "documents": [
                replace(
                    documents[each.number],
                    score=each.score,
                    meta={**documents[each.number].meta, **each.metadata},
                )
                for each in placed
            ]
        }

    def _opened(self) -> Orderer:
        if self._orderer is None:
            self._orderer = Orderer(open_reranker(**_models(self)))
        return self._orderer


def as_haystack(passage: Passage) -> Document:
    """A passage as Haystack's document."""
    return Document(
        id=passage.document.id, content=passage.document.text, meta=passage.metadata, score=passage.hit.score
    )


def _document(document: types.Document) -> Document:
    meta = {**document.metadata, "doc_id": document.id, "title": document.title}
    return Document(id=document.id, content=document.text, meta=meta)


def _models(named: RetgenRetriever | RetgenRanker) -> dict[str, Any]:
    return {
        "cross_encoder": named.cross_encoder,
        "generator": named.generator,
        "generator_weight": named.generator_weight,
        "device": named.device,
    }
