"""Requests that no client should send: never a 500, never a hang, and the server is well afterwards.

``RETGEN_MALFORMED_REQUESTS`` says how many are made (400 by default); the seed is in a failure's message.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from collections.abc import Callable
from typing import Any

from tests.server.serving import Client

REQUESTS = int(os.environ.get("RETGEN_MALFORMED_REQUESTS", "400"))
SECONDS = 60
PATIENCE = 1.0
"""Seconds until a request that gets no answer is ended by its client. Whole ones are answered long before."""
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/search", {"query": "capital of Laos", "top_k": 3, "with": "bm25", "filters": {"kind": "country"}}),
    ("/v1/answer", {"question": "capital of Laos", "rounds": 0, "top_k": 2}),
    ("/v1/rerank", {"query": "Laos", "documents": ["a", {"text": "b"}], "top_n": 1, "model": "retgen"}),
    ("/v1/explain", {"query": "Laos", "doc_id": "country/laos"}),
    ("/v1/chat/completions", {"model": "retgen", "messages": [{"role": "user", "content": "Laos?"}], "stream": True}),
    # An id twice: whatever else is done to it, nothing is added to the documents that other tests count.
    ("/v1/documents", {"documents": [{"id": "a", "text": "b"}, {"id": "a", "text": "c", "metadata": {"x": 1}}]}),
]
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, 10**400, float("nan"), float("inf"), "", " ", "\0", "\ud800", "\u2028",
    "a" * 5000, "'; DROP TABLE x; --", "../../etc/passwd", "<script>", "%00", "${jndi}", "\u202e", "🦊" * 100, [], {},
    [[]], [None] * 50, {"": None}, {"text": {"text": {}}}, {"role": "user"}, [1, "a", {}], "9" * 5000, {"__proto__": 1},
]  # fmt: skip
PATHS = [
    "/v1/documents/%00", "/v1/documents/%ff%fe", "/v1/documents/..%2f..%2fetc", "/v1/documents/" + "a" * 5000,
    "/v1//search", "/v1/documents?limit=9999999999999999999999", "/v1/documents?offset=-1", "/%c0%ae", "/v1", "//",
    "/v1/documents?limit=&offset=nan", "/v1/search?" + "a=b&" * 500, "/v1/documents/%F0%9F%A6%8A", "/metrics/",
    "/v1/documents/country%2Flaos", "/v1/documents?offset=" + "9" * 5000, "/v1/documents/\u00e9", "/v1/documents/a%09b",
]  # fmt: skip
SURPLUS = ["surplus", "", "Query", "top_k", "n", "tools", "rerank", "generator_weight"]
TYPES = ["application/json"] * 8 + ["", "text/plain", "application/json; charset=utf-16", "multipart/form-data"]
HEADERS = [
    b"Content-Length: -1", b"Content-Length: 5, 6", b"Content-Length: 99999999999999999999", b"Content-Length: abc",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Host:", b": empty", b"X: " + b"a" * 100_000,
    b"X\0: y", b"Authorization: Bearer \xff", b"X-Deadline-Seconds: 1e999", b"X-Deadline-Seconds: 0.0000001",
    b"X-Request-ID: \xe9", b"Expect: 100-continue", b"Upgrade: websocket\r\nConnection: Upgrade",
    b"Content-Encoding: gzip",
]  # fmt: skip


def mutated(rng: random.Random, value: Any) -> Any:
    """The value with one thing in it wrong, somewhere."""
    choice = rng.random()
    if isinstance(value, dict) and value and choice < 0.8:
        made = dict(value)
        name = rng.choice(list(made))
        if choice < 0.1:
            del made[name]
        elif choice < 0.2:
            made[rng.choice(["surplus", "", "Query", "top_k", "n", "tools", "rerank", "generator_weight"])] = (
                rng.choice(ODD)
            )
        else:
            made[name] = mutated(rng, made[name])
        return made
    if isinstance(value, list) and value and choice < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(rng, value[place]), *value[place + 1 :]]
    return rng.choice(ODD)


def body_of(rng: random.Random) -> tuple[str, bytes]:
    path, good = rng.choice(GOOD)
    value: Any = good
    for _ in range(rng.randint(1, 3)):
        value = mutated(rng, value)
    data = json.dumps(value).encode()
    kind = rng.random()
    if kind < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    elif kind < 0.2:
        place = rng.randrange(len(data) + 1)
        data = data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place:]
    elif kind < 0.25:
        data = b"[" * rng.randint(1, 20_000)
    elif kind < 0.3:
        data = rng.choice([b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), b"{}" + data, b'"' * 999, b"-", b""])
    return path, data


def by_json(rng: random.Random) -> bytes:
    """A whole HTTP request with a body that is wrong."""
    path, data = body_of(rng)
    kind = rng.choice(TYPES)
    header = f"Content-Type: {kind}\r\n" if kind else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode() + data


def by_path(rng: random.Random) -> bytes:
    """A request for an odd path."""
    method = rng.choice(["GET", "GET", "DELETE", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE", "get", "X" * 30])
    return f"{method} {rng.choice(PATHS)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def by_bytes(rng: random.Random) -> bytes:
    """Something that is hardly HTTP."""
    path, data = body_of(rng)
    chosen = rng.sample(HEADERS, rng.randint(1, 3))
    first = rng.choice([f"POST {path} HTTP/1.1", "GET / HTTP/9.9", "GET", "", f"POST {path} HTTP/1.0", "\0" * 20])
    return b"\r\n".join([first.encode(), b"Content-Type: application/json", *chosen, b"", data])


MAKERS: list[Callable[[random.Random], bytes]] = [by_json] * 8 + [by_path] * 2 + [by_bytes] * 2


def status_of(address: tuple[str, int], data: bytes) -> int | None:
    """The status a server answers with; None where it closes without a word, as it may to what is no HTTP."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        with contextlib.suppress(OSError):  # it may have said its word already, and closed
            connection.sendall(data)
        said = b""
        ended = False
        while b"\r\n\r\n" not in said:
            try:
                part = connection.recv(65536)
            except TimeoutError:
                if ended:
                    raise
                # It may wait for more of what is not whole: there is no more.
                ended = True
                connection.settimeout(SECONDS)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            said += part
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else None


def test_no_request_breaks_the_server(plain: Client) -> None:
    host, port = str(plain.http.base_url).removeprefix("http://").strip("/").split(":")
    met: dict[int | None, int] = {}
    for seed in range(REQUESTS):
        rng = random.Random(seed)
        data = rng.choice(MAKERS)(rng)
        try:
            status = status_of((host, int(port)), data)
        except TimeoutError:
            raise AssertionError(f"seed {seed}: no answer in {SECONDS} s to {data[:300]!r}") from None
        assert status is None or status < 500 or status == 503, f"seed {seed}: {status} to {data[:600]!r}"
        met[status] = met.get(status, 0) + 1
    # It was not one check that caught them all.
    assert {200, 400, 404, 405, 422} <= met.keys(), met
    assert plain.get("/readyz") == {"status": "ready"}
    assert plain.post("/v1/search", {"query": "capital of Laos"})["hits"]
