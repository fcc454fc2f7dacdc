"""A hub on this machine: as much of the Hugging Face Hub's HTTP interface as uploading a model asks for.

It takes every file in the commit itself ("regular"), where the real one asks for large files apart.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any] | None:
        """The JSON it answers; None for what it does not know."""
        self.requests.append((method, path.partition("?")[0]))
        if path == "/api/repos/create":
            name = json.loads(body)
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
            return {"commitUrl": f"{self.url}/{repository}/commit/1", "commitOid": "1" * 40, "success": True}
        return None


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A hub that listens on the loopback interface until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = hub.answer(self.command, self.path, body)
            sent = json.dumps(found if found is not None else {"error": "not found"}).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            if self.command != "HEAD":
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
