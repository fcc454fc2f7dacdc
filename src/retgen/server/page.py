"""The page at `/`: files of the package, read once, with the headers that let a browser keep and trust them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header
from fastapi.responses import Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
START = "index.html"
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Beside the guard's policy, which names the sources: no script can turn a text into markup, whatever a mistake does.
_NO_MARKUP = "require-trusted-types-for 'script'; trusted-types 'none'"


class PageFile(NamedTuple):
    """A file of the page.

    Args:
        body: its bytes.
        media_type: as browsers are told.
        etag: changes with the body, so that a browser asks again and gets 304.
    """

    body: bytes
    media_type: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """Every file of the page by name. Nothing else can be asked for, so that no path leads out of the folder."""
    found: dict[str, PageFile] = {}
    for entry in sorted(resources.files("retgen.server").joinpath("static").iterdir(), key=lambda entry: entry.name):
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            body = entry.read_bytes()
            found[entry.name] = PageFile(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


Known = Annotated[str | None, Header(alias="If-None-Match")]


@router.api_route("/", methods=["GET", "HEAD"])
def start() -> Response:
    """The page."""
    return _response(START)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def file(name: str, known: Known = None) -> Response:
    """What the page is made of."""
    if name == START:
        raise HTTPException(404, "Not Found")
    return _response(name, known)


@router.api_route("/favicon.ico", methods=["GET", "HEAD"])
def icon(known: Known = None) -> Response:
    """For browsers that ask for it unasked."""
    return _response("icon.svg", known)


def _response(name: str, known: str | None = None) -> Response:
    found = page_files().get(name)
    if found is None:
        raise HTTPException(404, "Not Found")
    if name == START:
        return Response(found.body, media_type=found.media_type, headers={"Content-Security-Policy": _NO_MARKUP})
    # Modules name each other without a version: a browser has to ask whether what it kept is still the same.
    headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
    if known is not None and found.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=found.media_type, headers=headers)
