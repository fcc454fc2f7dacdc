"""What stands before every route: request ids, keys, host names, limits of size, headers of safety, the log.

Plain ASGI, so that a body is counted as it arrives and a failure of any kind ends in one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retgen.errors import RetgenError
from retgen.server.batching import OverloadedError
from retgen.server.failures import RequestError, failure, unknown
from retgen.server.keys import Keys
from retgen.server.logs import FIELDS, access
from retgen.server.service import Service
from retgen.server.settings import AccessSettings

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
OPEN_PREFIX = "/page/"
"""Below it lies what a browser loads before it can know a key. Every other path needs one."""
SAFETY: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ASKING = frozenset({"/v1/search", "/v1/answer", "/v1/rerank", "/v2/rerank", "/v1/explain", "/v1/chat/completions"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


class DisconnectedError(Exception):
    """The client went away before its body was whole."""


class Guard:
    """An application with all this around it.

    Args:
        app: the application.
        service: whose limits hold, and whose metrics count.
        access_settings: keys and host names.
    """

    def __init__(self, app: ASGIApp, service: Service, access_settings: AccessSettings) -> None:
        self._app = app
        self._service = service
        self._keys = Keys(access_settings.keys)
        self._hosts = frozenset(name.lower() for name in access_settings.allowed_hosts)
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; other things than HTTP pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["retgen.begun"] = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        brought = headers.get("x-request-id", "")
        scope["retgen.request_id"] = brought if _ID.fullmatch(brought) else uuid.uuid4().hex
        sending = _Sending(send, scope)
        self._open += 1
        self._service.metrics.open.inc()
        try:
            self._admit(scope, headers)
            await self._app(scope, await self._received(scope, headers, receive), sending)
        except RetgenError as error:
            await sending.json(*failure(error, scope["retgen.request_id"]))
        except DisconnectedError:
            sending.status = 499
        except Exception:
            access.exception("a request failed", extra={FIELDS: {"request_id": scope["retgen.request_id"]}})
            await sending.json(500, unknown(scope["retgen.request_id"]), {})
        finally:
            self._open -= 1
            self._service.metrics.open.dec()
            self._tell(scope, sending.status)

    def _admit(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = _hostname(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            raise RequestError(
                421, "unknown_host", "this server does not go by that name", where="Host",
                mend="Call it by a name it knows, or start it with --allowed-host NAME",
            )  # fmt: skip
        path = scope["path"]
        if path in ("/healthz", "/readyz"):
            return
        if self._open > self._service.limits.requests:
            raise OverloadedError(f"{self._open - 1} requests are open already", 1.0)
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return
        if not self._keys.fit(headers):
            raise RequestError(
                401, "unauthorised", "an API key is needed", where="Authorization",
                mend="Send the header Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if self._service.draining:
            raise OverloadedError("this server is being stopped", 1.0)
        if path in _ASKING and "x-deadline-seconds" not in headers:
            # Refusing must cost little when there is much to refuse: nothing is read or parsed for it.
            self._service.check(scope["retgen.begun"] + self._service.limits.deadline_seconds)

    async def _received(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Receive:
        """The body, read whole and found fit, as the application will receive it."""
        if scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            return receive
        limits = self._service.limits
        length = headers.get("content-length", "0")
        if length.isdigit() and len(length) < 20 and int(length) > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        try:
            body = await asyncio.wait_for(_whole(receive, limits.body_bytes), limits.body_seconds)
        except TimeoutError as error:
            raise RequestError(408, "too_slow", "the body did not arrive in time", headers=_CLOSE) from error
        if body and scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise RequestError(
                    415, "unsupported_media_type", "the body is not declared as JSON", where="Content-Type",
                    mend="Send the header Content-Type: application/json",
                )  # fmt: skip
            check_depth(body, limits.json_depth)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    def _tell(self, scope: Scope, status: int) -> None:
        seconds = time.monotonic() - scope["retgen.begun"]
        route = getattr(scope.get("route"), "path", "unmatched")
        metrics = self._service.metrics
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.requests.labels(route, method, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        fields = {
            "request_id": scope["retgen.request_id"],
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
        }
        access.info("request", extra={FIELDS: fields})


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLOSE = {"Connection": "close"}


class _Sending:
    """Passes a response on with the headers of safety, and remembers its status."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope
        self.status = 500
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            added = {"x-request-id": self._scope["retgen.request_id"], **SAFETY}
            if not self._scope["path"].startswith(OPEN_PREFIX):
                added["cache-control"] = "no-store"
            raw = [(name.encode(), value.encode()) for name, value in added.items()]
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await self._send(message)

    async def json(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Send one JSON object, unless a response was begun already."""
        if self.started:
            return
        data = json.dumps(body, ensure_ascii=False).encode()
        raw = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        raw += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": status, "headers": raw})
        await self({"type": "http.response.body", "body": data})


def check_depth(body: bytes, limit: int) -> None:
    """Refuse JSON that is nested too deep, before it is parsed.

    Raises:
        RequestError: it is.

    Example:
        >>> check_depth(b'{"a": ["[[[[[["]}', 2)
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    depth = 0
    for match in _BRACKETS.finditer(body):
        sign = match.group()
        if sign in (b"[", b"{"):
            depth += 1
            if depth > limit:
                raise RequestError(422, "invalid_request", f"the body is nested deeper than {limit} levels")
        elif sign in (b"]", b"}"):
            depth -= 1


async def _whole(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "too_large", f"a body may have {limit} bytes", mend="Send less at once", headers=_CLOSE)


def _hostname(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
