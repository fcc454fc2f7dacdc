"""The application: routes, guard, and how failures leave it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import retgen
from retgen.errors import RetgenError
from retgen.server import chat, health, page, routes
from retgen.server.asking import request_id
from retgen.server.failures import failure, http_failure, invalid
from retgen.server.guard import Guard
from retgen.server.service import Service
from retgen.server.settings import AccessSettings

_ABOUT = """Ranked passages and answers with their sources, over one index.

Every failure is `{"error": {"type", "message", "mend", "where", "request_id"}}`. Scores are raw: no sigmoid.
The header `X-Deadline-Seconds` says how long an answer may take; what is later gets 503 with `Retry-After`.
"""
_TAGS = [
    {"name": "passages", "description": "Finding, ordering, explaining."},
    {"name": "answers", "description": "With what they stand on."},
    {"name": "documents", "description": "That come and go."},
    {"name": "server", "description": "What it is and how it does."},
]


def create_app(service: Service, access: AccessSettings | None = None) -> FastAPI:
    """An ASGI application over a service. It closes the service when it is shut down.

    Args:
        service: an opened pipeline at work.
        access: keys, host names and origins; by default anyone may ask.
    """
    allowed = access or AccessSettings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="retgen",
        version=retgen.__version__,
        description=_ABOUT,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for module in (routes, chat, health, page):
        app.include_router(module.router)
    app.add_exception_handler(RetgenError, _named)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard, service=service, access_settings=allowed)
    if allowed.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Deadline-Seconds", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    _with_keys(app, bool(allowed.keys))
    return app


async def _named(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RetgenError)
    status, body, headers = failure(error, request_id(request))
    return JSONResponse(body, status, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(invalid(error.errors(), request_id(request)), 422)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    body = http_failure(error.status_code, str(error.detail), request_id(request))
    return JSONResponse(body, error.status_code, error.headers)


def _with_keys(app: FastAPI, needed: bool) -> None:
    """Say in the OpenAPI that a bearer key is needed, where it is."""
    if not needed:
        return
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        made = plain()
        made.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"key": []}]
        return made

    app.openapi = openapi  # type: ignore[method-assign]
