"""`/v1/rerank`: texts that came with the request, by the pipeline's re-ranker; by BM25 where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retgen.lexical import BM25
from retgen.server.finding import finite
from retgen.server.parts import Parts
from retgen.server.responses import RerankedDocument, RerankResponse, RerankResult
from retgen.types import Document, Hit, Query, Run

BM25_NAME = "bm25"


@dataclass(frozen=True, slots=True)
class RerankJob:
    """One request: (title, text) of each document, and how much to give back."""

    id: str
    query: str
    documents: tuple[tuple[str, str], ...]
    top_n: int | None
    return_documents: bool


def scorer(parts: Parts) -> str:
    """What scores texts here."""
    return parts.reranker_kind or BM25_NAME


def rank_texts(parts: Parts, jobs: Sequence[RerankJob]) -> list[RerankResponse]:
    """The responses of a batch; the models score the pairs of all its requests at once."""
    queries = [Query(str(number), job.query) for number, job in enumerate(jobs)]
    documents = {
        f"{number}/{place}": Document(f"{number}/{place}", text, title)
        for number, job in enumerate(jobs)
        for place, (title, text) in enumerate(job.documents)
    }
    ids = [[f"{number}/{place}" for place in range(len(job.documents))] for number, job in enumerate(jobs)]
    if parts.reranker is None:
        hits = [_by_words(parts, query, [documents[i] for i in row]) for query, row in zip(queries, ids, strict=True)]
    else:
        run = Run([query.id for query in queries], ids, [[0.0] * len(row) for row in ids], presorted=True)
        ranked = parts.reranker.rerank(queries, run, documents)
        hits = [ranked[query.id] for query in queries]
    return [_response(parts, job, row) for job, row in zip(jobs, hits, strict=True)]


def _by_words(parts: Parts, query: Query, documents: Sequence[Document]) -> tuple[Hit, ...]:
    """BM25 with these texts' own statistics; those that share no word with the query have 0 and stand last."""
    found = BM25.build(documents, language=parts.language).search([query], len(documents))[query.id]
    met = {hit.doc_id for hit in found}
    rest = [document.id for document in documents if document.id not in met]
    last = [Hit(doc_id, 0.0, len(found) + place, {BM25_NAME: 0.0}) for place, doc_id in enumerate(rest, 1)]
    return (*found, *last)


def _response(parts: Parts, job: RerankJob, hits: Sequence[Hit]) -> RerankResponse:
    results = []
    for hit in hits[: job.top_n]:
        place = int(hit.doc_id.rpartition("/")[2])
        title, text = job.documents[place]
        components = {name: score for name, score in finite(hit.components).items() if name != "first_stage"}
        sent = RerankedDocument(text=text, title=title or None) if job.return_documents else None
        results.append(RerankResult(index=place, relevance_score=hit.score, components=components, document=sent))
    return RerankResponse(id=job.id, model=scorer(parts), results=results)
