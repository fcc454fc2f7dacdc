"""A hub on this machine: as much of the Hugging Face Hub's HTTP interface as uploading and downloading a model ask for.

It takes every file in the commit itself ("regular"), where the real one asks for large files apart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


def _oid(content: bytes) -> str:
    """Git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What was asked of it, and what was uploaded.

    Args:
        url: of its root.
        requests: method and path of each.
        files: of its only repository.
    """

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any] | list[dict[str, Any]] | None:
        """The JSON it answers; None for what it does not know."""
        self.requests.append((method, path.partition("?")[0]))
        if path == "/api/repos/create":
            name = json.loads(body)
            self.created.append(name)
            return {"url": f"{self.url}/{name.get('organization', 'someone')}/{name['name']}"}
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            return {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]}
        if path == "/api/validate-yaml":
            return {"warnings": [], "errors": []}
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            repository = path.removeprefix("/api/models/").removesuffix("/commit/main")
            return {"commitUrl": f"{self.url}/{repository}/commit/1", "commitOid": COMMIT, "success": True}
        if path.startswith("/api/models/") and path.partition("?")[0].endswith(("/revision/main", f"/tree/{COMMIT}")):
            if "/tree/" in path:
                return [
                    {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                    for name, content in self.files.items()
                ]
            repository = path.removeprefix("/api/models/").removesuffix("/revision/main")
            return {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
        return None

    def file(self, path: str) -> bytes | None:
        """The content of ``/owner/name/resolve/<commit or main>/file``; None for other paths."""
        _, found, rest = path.partition("?")[0].partition("/resolve/")
        revision, _, name = rest.partition("/")
        return self.files.get(name) if found and revision in ("main", COMMIT) else None


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A hub that listens on the loopback interface until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = hub.file(self.path)
            found = hub.answer(self.command, self.path, body) if content is None else None
            sent = (
                content if content is not None else json.dumps(found if found is not None else {"error": "no"}).encode()
            )
            self.send_response(200 if (content, found) != (None, None) else 404)
            self.send_header("Content-Type", "application/json")
            if "/resolve/" in self.path and content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            if content is not None:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{_oid(content)}"')
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            if self.command != "HEAD":  # which asks for the length alone
                self.wfile.write(sent)

        do_GET = do_HEAD = do_POST = _answer  # noqa: N815 — the server looks for these names

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
