"""From questions to ranked passages, a batch at a time: retrieved, then re-ranked. Search and answer begin here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from retgen.errors import UsageError
from retgen.index import metadata_filter
from retgen.rerank.joint import JointReranker, joint_scores
from retgen.server.parts import UNIGEN, Parts
from retgen.types import Document, DocumentFilter, Hit, Query, Run

Filters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and how its passages are to be found.

    Args:
        text: the question.
        k: documents wanted at the end.
        retriever: a name of `Parts.retrievers`.
        filters: metadata that documents must have.
        rerank: whether the re-ranker orders what was retrieved.
        generator_weight: λ, in place of the re-ranker's own.
    """

    text: str
    k: int
    retriever: str
    filters: Filters = ()
    rerank: bool = True
    generator_weight: float | None = None

    def depth(self, parts: Parts) -> int:
        """Documents to retrieve for it."""
        return max(self.k, parts.candidates) if self.rerank else self.k


class Found(NamedTuple):
    """Passages of one question: as they were retrieved, and in their final order."""

    query: Query
    retrieved: tuple[Hit, ...]
    ranked: tuple[Hit, ...]
    reranked: bool


def check_asked(parts: Parts, asked: Asked) -> None:
    """Refuse what this pipeline cannot do, before it waits for its turn.

    Raises:
        UsageError: an unknown retriever, a filter that it does not take, or a weight without a joint re-ranker.
    """
    if asked.retriever not in parts.retrievers:
        raise UsageError(
            f"there is no retriever {asked.retriever!r}", where="with", mend=f"There are: {', '.join(parts.retrievers)}"
        )
    if asked.retriever == UNIGEN and asked.filters:
        raise UsageError(
            "a served UniGen takes no filters", where="filters", mend='Leave them out, or search with "with": "bm25"'
        )
    if asked.generator_weight is not None and not isinstance(parts.reranker, JointReranker):
        raise UsageError(
            "there is no joint re-ranker whose weight could be set",
            where="generator_weight",
            mend="Leave it out, or serve with a cross-encoder and a generator",
        )


def find(parts: Parts, asked: Sequence[Asked]) -> list[Found]:
    """The passages of every question. Questions that are retrieved alike share their searches, all share the re-ranker.

    What one question finds does not depend on the others of its batch, but for the last bits of a model's scores.
    """
    queries = [Query(str(number), item.text) for number, item in enumerate(asked)]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, item in enumerate(asked):
        # UniGen's search is told how many to find; of the others the first k are the same whatever follows.
        exact = item.depth(parts) if item.retriever == UNIGEN else None
        groups.setdefault((item.retriever, item.filters, exact), []).append(number)
    runs = []
    for numbers in groups.values():
        first = asked[numbers[0]]
        depth = max(asked[number].depth(parts) for number in numbers)
        run = retrieve(parts, [queries[number] for number in numbers], first.retriever, depth, first.filters)
        for number in numbers:
            own = run.select([queries[number].id])
            runs.append(cut(parts, own, asked[number].depth(parts)))
    return rerank(parts, queries, Run.concat(runs), asked)


def retrieve(parts: Parts, queries: Sequence[Query], retriever: str, depth: int, filters: Filters = ()) -> Run:
    """Passages enough for ``depth`` documents of every query."""
    if retriever == UNIGEN and parts.system is not None:
        return named(parts.system.search(queries, k=depth), UNIGEN)
    keep: DocumentFilter | None = metadata_filter(dict(filters)) if filters else None
    return parts.index.search_passages(queries, depth, retriever=retriever, filter=keep)


def named(run: Run, component: str) -> Run:
    """A run whose scores are also a component of that name, and its only one."""
    ids = run.query_ids
    scores = [run.scores(query_id) for query_id in ids]
    return Run(
        ids,
        [run.doc_ids(query_id) for query_id in ids],
        scores,
        components={component: scores},
        fingerprint=run.fingerprint,
        presorted=True,
    )


def cut(parts: Parts, run: Run, documents: int) -> Run:
    """The passages up to those that bring in so many documents; of whole documents, the first so many."""
    corpus = parts.index.corpus
    if not corpus.chunked:
        return run.top(documents)
    kept: dict[str, Sequence[Hit]] = {}
    for query_id, hits in run.items():
        seen: set[str] = set()
        chosen = []
        for hit in hits:
            doc_id = corpus.document_id(hit.doc_id)
            if doc_id not in seen and len(seen) == documents:
                break
            seen.add(doc_id)
            chosen.append(hit)
        kept[query_id] = chosen
    return Run.from_hits(kept, fingerprint=run.fingerprint)


def rerank(parts: Parts, queries: Sequence[Query], run: Run, asked: Sequence[Asked]) -> list[Found]:
    """What was retrieved, in its final order."""
    chosen = [query for query, item in zip(queries, asked, strict=True) if item.rerank and parts.reranker is not None]
    made: Mapping[str, Sequence[Hit]] = {}
    if chosen and parts.reranker is not None:
        ranked = parts.reranker.rerank(chosen, run.select([query.id for query in chosen]), parts.index.corpus)
        weights = {query.id: item.generator_weight for query, item in zip(queries, asked, strict=True)}
        made = {query.id: _weighed(parts, ranked, query.id, weights[query.id]) for query in chosen}
    return [
        Found(query, run[query.id], tuple(made.get(query.id, run[query.id])), query.id in made) for query in queries
    ]


def _weighed(parts: Parts, run: Run, query_id: str, weight: float | None) -> tuple[Hit, ...]:
    if weight is None or not isinstance(parts.reranker, JointReranker):
        return run[query_id]
    first, second = parts.reranker.names
    return joint_scores(run.select([query_id]), first=first, second=second, generator_weight=weight)[query_id]


def weights_of(parts: Parts, asked: Asked) -> dict[str, float]:
    """Component → weight in this question's order; empty where nothing re-ranks."""
    if not asked.rerank or parts.reranker is None:
        return {}
    if asked.generator_weight is not None and isinstance(parts.reranker, JointReranker):
        first, second = parts.reranker.names
        return {first: 1 - asked.generator_weight, second: asked.generator_weight}
    return parts.weights


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Scores that JSON can hold: a component that this passage lacks is left out."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def passage_fields(parts: Parts, hit: Hit) -> tuple[Document, dict[str, object]]:
    """A hit's passage, and the fields that every view of it has."""
    document = parts.index.corpus[hit.doc_id]
    return document, {
        "id": parts.index.corpus.document_id(hit.doc_id),
        "passage_id": hit.doc_id,
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
        "score": hit.score,
        "components": finite(hit.components),
    }
