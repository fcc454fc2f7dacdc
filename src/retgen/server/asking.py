"""What the routes share: the service, the request's id and deadline, checked lengths, and how failures are told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from retgen.errors import UsageError
from retgen.server.failures import RequestError
from retgen.server.finding import Asked, Filters
from retgen.server.parts import Parts
from retgen.server.ranking_texts import scorer
from retgen.server.requests import Scalar
from retgen.server.responses import ErrorResponse
from retgen.server.service import Service

PIPELINE = "retgen"
"""The name that always stands for what this server serves."""

_SAID = {
    400: "Something the pipeline cannot do.",
    401: "No API key, or a wrong one.",
    404: "No such document, model or path.",
    408: "The body took too long to arrive.",
    409: "It does not go with what is there now.",
    413: "Too long a body, or too many documents.",
    415: "The body is not declared as JSON.",
    422: "A field is missing or has a value that cannot be used.",
    501: "A loaded part cannot do this.",
    503: "Overloaded, past the deadline, or being stopped: come again after `Retry-After` seconds.",
}


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The failures that a route may have, for OpenAPI."""
    return {status: {"model": ErrorResponse, "description": _SAID[status]} for status in sorted(statuses)}


COMMON = failing(400, 401, 408, 413, 415, 422, 503)


def service_of(request: Request) -> Service:
    """The service of the application."""
    found: Service = request.app.state.service
    return found


def request_id(request: Request) -> str:
    """The id that the request was given, or brought with it."""
    found: str = request.scope["retgen.request_id"]
    return found


def deadline_of(
    request: Request,
    x_deadline_seconds: Annotated[
        float | None,
        Header(gt=0, allow_inf_nan=False, description="In how many seconds the answer must be there, at most."),
    ] = None,
) -> float:
    """When the answer must be there, on `time.monotonic`'s clock."""
    limits = service_of(request).limits
    seconds = limits.deadline_seconds if x_deadline_seconds is None else x_deadline_seconds
    return float(request.scope["retgen.begun"]) + min(seconds, limits.max_deadline_seconds)


Served = Annotated[Service, Depends(service_of)]
RequestId = Annotated[str, Depends(request_id)]
Deadline = Annotated[float, Depends(deadline_of)]


def check_question(service: Service, text: str, where: str) -> str:
    """A question that is short enough.

    Raises:
        RequestError: it is longer than this server's limit.
    """
    limit = service.limits.query_characters
    if len(text) > limit:
        raise RequestError(
            422, "invalid_request", f"a question may have {limit} characters, this one has {len(text)}", where=where
        )
    return text


def check_document(service: Service, characters: int, where: str) -> None:
    """Refuse a document that is too long.

    Raises:
        RequestError: it is longer than this server's limit.
    """
    limit = service.limits.document_characters
    if characters > limit:
        raise RequestError(
            413, "too_large", f"a document may have {limit} characters, this one has {characters}", where=where
        )


def check_count(service: Service, number: int) -> None:
    """Refuse too many documents at once.

    Raises:
        RequestError: there are more than this server's limit.
    """
    limit = service.limits.documents
    if number > limit:
        raise RequestError(
            413, "too_large", f"a request may have {limit} documents, this one has {number}", where="documents"
        )


def check_model(parts: Parts, name: str | None) -> None:
    """Refuse a model that is not served.

    Raises:
        RequestError: there is none of that name.
    """
    names = model_names(parts)
    if name is not None and name not in names:
        raise RequestError(
            404, "model_not_found", "there is no such model here", where="model", mend=f"There are: {', '.join(names)}"
        )


def model_names(parts: Parts) -> list[str]:
    """What requests may give as ``model``: the pipeline, and what scores texts."""
    return [PIPELINE, scorer(parts)]


def as_filters(filters: Mapping[str, Scalar] | None) -> Filters:
    """Filters in an order of their own, so that equal ones are equal."""
    return tuple(sorted((name, str(value)) for name, value in (filters or {}).items()))


def pairs(parts: Parts, asked: Asked) -> int:
    """Pairs that the re-ranker scores for a question, at least 1."""
    return asked.depth(parts) if parts.reranker is not None and asked.rerank else 1


def now() -> int:
    """Seconds since 1970, as OpenAI's ``created``."""
    return int(time.time())


def refuse_weight(parts: Parts, rerank: bool | None, weight: float | None) -> None:
    """Refuse a weight of a re-ranker that the same request leaves out.

    Raises:
        UsageError: both were asked for.
    """
    if rerank is False and weight is not None:
        raise UsageError("nothing is re-ranked, so that a weight has no use", where="generator_weight")
    if rerank and parts.reranker is None:
        raise UsageError(
            "no re-ranker is loaded", where="rerank", mend="Leave it out, or serve with --cross-encoder or --generator"
        )
