"""The routes of retgen's own: search, rerank, answer, explain, documents, and what the server is made of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

import retgen
from retgen.server import documents as changing
from retgen.server.answering import Answered, AnswerJob, check_answer
from retgen.server.asking import (
    COMMON,
    Deadline,
    RequestId,
    Served,
    as_filters,
    check_count,
    check_document,
    check_model,
    check_question,
    failing,
    model_names,
    now,
    pairs,
    refuse_weight,
)
from retgen.server.explaining import ExplainJob, explainers
from retgen.server.finding import Asked, check_asked
from retgen.server.ranking_texts import RerankJob
from retgen.server.requests import AddRequest, AnswerRequest, ExplainRequest, RerankRequest, SearchRequest
from retgen.server.responses import (
    AddResponse,
    AnswerResponse,
    DeleteResponse,
    DocumentList,
    DocumentResponse,
    ExplainResponse,
    LimitsView,
    Model,
    ModelList,
    PipelineResponse,
    RerankerView,
    RerankResponse,
    SearchResponse,
)
from retgen.server.searching import SearchJob
from retgen.server.service import ANSWER, EXPLAIN, RERANK, SEARCH

router = APIRouter()
_READING = failing(401, 404, 422, 503)
DocId = Annotated[str, Path(min_length=1, max_length=600, description="A document's id, or a chunk's.")]


@router.post("/v1/search", tags=["passages"], responses=COMMON, summary="Find passages")
async def search(body: SearchRequest, service: Served, deadline: Deadline, id: RequestId) -> SearchResponse:
    """The best passages for a question, each with its component scores, and its rank before and after re-ranking."""
    parts = service.parts
    refuse_weight(parts, body.rerank, body.generator_weight)
    asked = Asked(
        check_question(service, body.query, "query"),
        body.top_k,
        body.with_ or parts.retriever,
        as_filters(body.filters),
        parts.reranker is not None and body.rerank is not False,
        body.generator_weight,
    )
    check_asked(parts, asked)
    found: SearchResponse = await service.run(SEARCH, SearchJob(id, asked), deadline, pairs(parts, asked))
    return found


@router.post("/v1/answer", tags=["answers"], responses={**COMMON, **failing(501)}, summary="Answer a question")
async def answer(body: AnswerRequest, service: Served, deadline: Deadline, id: RequestId) -> AnswerResponse:
    """An answer, the passages it cites with character spans, and the way all passages went through the pipeline."""
    parts = service.parts
    asked = Asked(
        check_question(service, body.question, "question"),
        body.top_k or parts.top_k,
        body.with_ or parts.retriever,
        as_filters(body.filters),
        True,
        body.generator_weight,
    )
    job = AnswerJob(id, asked, body.rounds)
    check_answer(parts, job)
    made: Answered = await service.run(ANSWER, job, deadline, pairs(parts, asked))
    return made.response


@router.post("/v2/rerank", tags=["passages"], responses={**COMMON, **failing(404)}, include_in_schema=False)
@router.post("/v1/rerank", tags=["passages"], responses={**COMMON, **failing(404)}, summary="Order texts")
async def rerank(body: RerankRequest, service: Served, deadline: Deadline, id: RequestId) -> RerankResponse:
    """Texts ordered by how well they fit a query: the shape of Cohere's and Jina's clients, which find it under
    `/v2/rerank` too.

    Scored by the loaded re-ranker, or by BM25 with the texts' own statistics where there is none; `model` of the
    response says which. Scores are raw: any real number, higher is better.
    """
    parts = service.parts
    check_model(parts, body.model)
    check_question(service, body.query, "query")
    check_count(service, len(body.documents))
    texts = tuple(("", item) if isinstance(item, str) else (item.title, item.text) for item in body.documents)
    for number, (title, text) in enumerate(texts):
        check_document(service, len(title) + len(text), f"documents.{number}")
    job = RerankJob(id, body.query, texts, body.top_n, body.return_documents)
    size = len(texts) if parts.reranker is not None else 1
    found: RerankResponse = await service.run(RERANK, job, deadline, size)
    return found


@router.post("/v1/explain", tags=["passages"], responses={**COMMON, **failing(404)}, summary="Explain a rank")
async def explain(body: ExplainRequest, service: Served, deadline: Deadline) -> ExplainResponse:
    """What each part of the pipeline gives a passage for a question, token by token where it can."""
    check_question(service, body.query, "query")
    found: ExplainResponse = await service.run(EXPLAIN, ExplainJob(body.query, body.doc_id), deadline)
    return found


@router.get("/v1/documents", tags=["documents"], responses=_READING, summary="List documents")
def list_documents(
    service: Served,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DocumentList:
    """A page of the documents, in the order of the index; those added last stand at the end."""
    return changing.list_documents(service.parts, offset, limit)


@router.post(
    "/v1/documents",
    tags=["documents"],
    status_code=201,
    responses={**COMMON, **failing(409, 501)},
    summary="Add documents",
)
async def add_documents(body: AddRequest, service: Served, deadline: Deadline) -> AddResponse:
    """Adds documents, all or none. When the response is there they can be found, and they outlive a restart.

    The index is written anew each time (concurrent requests share a writing), so send many documents at once. An index
    with a part that takes no additions is refused with 501, and nothing is added.
    """
    changing.check_changeable(service.parts)
    check_count(service, len(body.documents))
    for number, document in enumerate(body.documents):
        check_document(service, len(document.title) + len(document.text), f"documents.{number}")
    job = changing.AddJob(tuple(map(changing.as_document, body.documents)), body.replace)
    added: AddResponse = await service.change(job, deadline)
    return added


@router.get("/v1/documents/{doc_id:path}", tags=["documents"], responses=_READING, summary="Read a document")
def get_document(doc_id: DocId, service: Served) -> DocumentResponse:
    """A document, whole."""
    return changing.get_document(service.parts, doc_id)


@router.delete(
    "/v1/documents/{doc_id:path}",
    tags=["documents"],
    responses={**_READING, **failing(409, 501)},
    summary="Remove a document",
)
async def delete_document(doc_id: DocId, service: Served, deadline: Deadline) -> DeleteResponse:
    """Removes a document. When the response is there it is not found any more, nor after a restart."""
    changing.check_changeable(service.parts)
    removed: DeleteResponse = await service.change(changing.RemoveJob(doc_id), deadline)
    return removed


@router.get("/v1/models", tags=["server"], responses=failing(401), summary="Names for `model`")
def models(service: Served) -> ModelList:
    """`retgen`, the pipeline; and the name of what scores texts in `/v1/rerank`."""
    return ModelList(data=[Model(id=name, created=now()) for name in model_names(service.parts)])


@router.get("/v1/pipeline", tags=["server"], responses=failing(401), summary="What is served")
def pipeline(service: Served) -> PipelineResponse:
    """The parts of this server's pipeline, what they can do, and its limits."""
    parts, limits = service.parts, service.limits
    reranker = None
    if parts.reranker_kind is not None and parts.reranker is not None:
        names = [*getattr(parts.reranker, "names", ()), parts.reranker.component]
        reranker = RerankerView(kind=parts.reranker_kind, components=names, weights=parts.weights)
    system = parts.system
    return PipelineResponse(
        version=retgen.__version__,
        index=parts.index.path.name,
        documents=parts.document_count,
        chunked=parts.index.corpus.chunked,
        retriever=parts.retriever,
        retrievers=list(parts.retrievers),
        candidates=parts.candidates,
        reranker=reranker,
        answerer=parts.answerer_kind,
        top_k=parts.top_k,
        rounds=system is not None and system.writer is not None,
        explains=[part.name for part in explainers(parts)],
        can_change=parts.cannot_change is None,
        cannot_change_because=parts.cannot_change,
        limits=LimitsView(
            body_bytes=limits.body_bytes,
            query_characters=limits.query_characters,
            document_characters=limits.document_characters,
            documents=limits.documents,
            deadline_seconds=limits.deadline_seconds,
        ),
    )
