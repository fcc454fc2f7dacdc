"""Real servers for the tests: uvicorn on a free port of 127.0.0.1, over small indexes and tiny models."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.server import AccessSettings, Limits, Parts, PipelineSettings, open_parts
from retgen.server.app import create_app
from retgen.server.running import listen, server_of, url_of
from retgen.server.service import Service
from retgen.types import FloatArray
from tests.models.generators import seq2seq
from tests.rerank.classifiers import save_classifier

JSON = {"Content-Type": "application/json"}


def save_models(folder: Path) -> tuple[str, str]:
    """A cross-encoder and a generator of some ten thousand random weights."""
    cross_encoder = save_classifier(folder / "cross-encoder")
    model, tokenizer = seq2seq("t5")
    model.save_pretrained(folder / "generator")
    tokenizer.save_pretrained(folder / "generator")
    return str(cross_encoder), str(folder / "generator")


def opened(index: Path, **settings: Any) -> Parts:
    return open_parts(PipelineSettings.model_validate({"index": index, "device": "cpu", **settings}))


@contextlib.contextmanager
def running(
    parts: Parts, limits: Mapping[str, object] | None = None, access: AccessSettings | None = None
) -> Iterator[tuple[str, Service]]:
    """A server's URL and its service, as long as the block lasts."""
    service = Service(parts, Limits.model_validate(limits or {}))
    bound = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = server_of(create_app(service, access), service, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    try:
        yield url_of(bound), service
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not end"


class Client:
    """Asks a server over one connection pool."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.http = httpx2.Client(base_url=url, headers=dict(headers or {}), timeout=60, trust_env=False)

    def post(self, path: str, body: object, status: int = 200, **headers: str) -> dict[str, Any]:
        response = self.http.post(path, json=body, headers={n.replace("_", "-"): v for n, v in headers.items()})
        assert response.status_code == status, response.text
        found: dict[str, Any] = response.json()
        return found

    def get(self, path: str, status: int = 200) -> dict[str, Any]:
        response = self.http.get(path)
        assert response.status_code == status, response.text
        found: dict[str, Any] = response.json()
        return found

    def delete(self, path: str, status: int = 200) -> dict[str, Any]:
        response = self.http.delete(path)
        assert response.status_code == status, response.text
        found: dict[str, Any] = response.json()
        return found

    def error(self, path: str, body: object, status: int, **headers: str) -> dict[str, Any]:
        found: dict[str, Any] = self.post(path, body, status, **headers)["error"]
        return found


def at_once(calls: Sequence[Any]) -> list[Any]:
    """The results of calls made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


class HeldReranker(CandidateReranker):
    """Keeps the order; waits until it is let go, so that a test knows what waits behind it."""

    component = "held"

    def __init__(self, fails: str = "") -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.batches: list[int] = []
        self.fails = fails

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        self.batches.append(len(candidates.queries))
        self.begun.set()
        assert self.let_go.wait(60)
        if self.fails and any(self.fails in query.text for query in candidates.queries):
            raise RuntimeError(f"a fault, with the question: {[query.text for query in candidates.queries]}")
        return -np.arange(len(candidates.pairs), dtype=np.float64)
