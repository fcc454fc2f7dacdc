"""`/v1/search`: the hits of a batch of queries, each document where its best passage stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retgen.server.finding import Asked, find, passage_fields, weights_of
from retgen.server.parts import Parts
from retgen.server.responses import SearchHit, SearchResponse
from retgen.types import Hit


@dataclass(frozen=True, slots=True)
class SearchJob:
    """One search, with the id its response will have."""

    id: str
    asked: Asked


def search(parts: Parts, jobs: Sequence[SearchJob]) -> list[SearchResponse]:
    """The responses of a batch."""
    found = find(parts, [job.asked for job in jobs])
    made = []
    for job, item in zip(jobs, found, strict=True):
        before = {doc_id: rank for rank, doc_id in enumerate(_documents(parts, item.retrieved), 1)}
        best = list(_documents(parts, item.ranked).items())[: job.asked.k]
        hits = [
            SearchHit.model_validate({**passage_fields(parts, hit)[1], "rank": rank, "rank_before": before[doc_id]})
            for rank, (doc_id, hit) in enumerate(best, 1)
        ]
        made.append(
            SearchResponse(
                id=job.id,
                query=job.asked.text,
                retriever=job.asked.retriever,
                reranker=parts.reranker_kind if item.reranked else None,
                weights=weights_of(parts, job.asked),
                hits=hits,
            )
        )
    return made


def _documents(parts: Parts, hits: Sequence[Hit]) -> dict[str, Hit]:
    """Document → its best-ranked passage, in the order of these."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(parts.index.corpus.document_id(hit.doc_id), hit)
    return first
