"""From errors to responses: what is wrong and how to mend it, never a stack trace, and never another's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from retgen.errors import (
    ArtefactError,
    FormatError,
    LockedError,
    MismatchError,
    MissingExtraError,
    RecordError,
    RetgenError,
    UnknownDocumentError,
    UsageError,
)
from retgen.index import FixedIndexError
from retgen.server.batching import DeadlineError, OverloadedError
from retgen.server.responses import ErrorDetail, ErrorResponse


class RequestError(RetgenError):
    """A request that is refused for a reason of the server's own.

    Args:
        status: of the response.
        kind: its ``type``.
        what: see `RetgenError`.
        where: the field or header.
        mend: see `RetgenError`.
        headers: that the response has.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        what: str,
        *,
        where: str | None = None,
        mend: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})


_STATUS: Sequence[tuple[type[RetgenError], int]] = (
    (UnknownDocumentError, 404),
    (FixedIndexError, 501),
    (MissingExtraError, 501),
    (UsageError, 400),
    (RecordError, 422),
    (LockedError, 409),
    (MismatchError, 409),
    (FormatError, 422),
    (ArtefactError, 409),
    (RetgenError, 400),
)
_HTTP_TYPES = {401: "unauthorised", 404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


def body(
    kind: str, message: str, request_id: str, *, mend: str | None = None, where: str | None = None
) -> dict[str, Any]:
    """The body of a failure."""
    detail = ErrorDetail(type=kind, message=message, mend=mend, where=where, request_id=request_id)
    return ErrorResponse(error=detail).model_dump()


def failure(error: RetgenError, request_id: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of a named error.

    Paths of this machine are kept back: ``where`` is passed on of a request's own fields alone.
    """
    if isinstance(error, RequestError):
        made = body(error.kind, error.what, request_id, mend=error.mend, where=error.where)
        return error.status, made, error.headers
    if isinstance(error, OverloadedError):
        kind = "deadline_exceeded" if isinstance(error, DeadlineError) else "overloaded"
        seconds = str(max(1, round(error.retry_after)))
        return 503, body(kind, error.what, request_id, mend=error.mend), {"Retry-After": seconds}
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    where = error.where if error.where is not None and "/" not in error.where else None
    headers = {"Retry-After": "1"} if isinstance(error, LockedError) else {}
    mend = None if isinstance(error, UnknownDocumentError) else error.mend
    return status, body(_snake(type(error).__name__), error.what, request_id, mend=mend, where=where), headers


def http_failure(status: int, message: str, request_id: str) -> dict[str, Any]:
    """The body of a failure that the framework found: an unknown path, a method that is not allowed."""
    return body(_HTTP_TYPES.get(status, "bad_request"), message, request_id)


def invalid(errors: Sequence[Mapping[str, Any]], request_id: str) -> dict[str, Any]:
    """The body of a 422: the first field at fault, and how many there are. What was sent is not sent back."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:])  # the first says only: body, query, path, header
    more = f" ({len(errors)} faults in all)" if len(errors) > 1 else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        where, message = "", "the body is not JSON"
    return body("invalid_request", f"{message}{more}", request_id, where=where or None, mend="See /openapi.json")


def unknown(request_id: str) -> dict[str, Any]:
    """The body of a 500: the request's id, under which the log has more."""
    return body("internal_error", "something went wrong here", request_id, mend="Tell who runs this server the id")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
