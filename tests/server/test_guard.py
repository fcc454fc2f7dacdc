"""What stands before the routes: keys, names, limits, headers; and that failures and logs keep texts to themselves."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from retgen.errors import UsageError
from retgen.server import AccessSettings, Limits, read_keys
from retgen.server.failures import RequestError
from retgen.server.guard import check_depth
from retgen.server.keys import Keys
from retgen.server.logs import JsonLines, access
from tests.server.serving import JSON, Client, HeldReranker, at_once, opened, running

KEY, OTHER = "sk-first-key", "sk-other-key"
OPEN = ("/healthz", "/readyz", "/openapi.json")
SEARCH = {"query": "what is the capital of Laos?"}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs, as it stands in its log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    access.addHandler(handler)
    level = access.level
    access.setLevel(logging.INFO)
    yield stream
    access.setLevel(level)
    access.removeHandler(handler)


def test_only_keys_open_a_server_with_keys(index: Path) -> None:
    with running(opened(index), access=AccessSettings(keys=(KEY, OTHER))) as (url, _):
        client = Client(url)
        for path in ("/v1/models", "/v1/documents", "/v1/pipeline", "/metrics", "/v1/nowhere", "/nowhere"):
            response = client.http.get(path)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert client.error("/v1/search", SEARCH, 401)["type"] == "unauthorised"
        assert all(client.http.get(path).status_code == 200 for path in OPEN)
        for key in (KEY, OTHER):
            assert Client(url, {"Authorization": f"Bearer {key}"}).post("/v1/search", SEARCH)["hits"]
            assert Client(url, {"X-API-Key": key}).post("/v1/search", SEARCH)["hits"]
        for wrong in (KEY[:-1], f"{KEY}x", KEY.upper(), "é", f"{KEY} {OTHER}"):
            headers = [(b"authorization", f"Bearer {wrong}".encode())]
            assert client.http.post("/v1/search", json=SEARCH, headers=headers).status_code == 401
        assert client.get("/openapi.json")["security"] == [{"key": []}]


def test_keys_are_compared_whole() -> None:
    keys = Keys([KEY])
    assert keys.fit({"authorization": f"bearer {KEY}"})
    assert not keys.fit({})
    assert not keys.fit({"authorization": KEY})
    assert not keys.fit({"authorization": f"Basic {KEY}", "x-api-key": "no"})
    assert Keys([]).fit({})


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n  {OTHER}  \n")
    assert read_keys(file) == (KEY, OTHER)
    for bad in ("", "# none\n", "short\n", "with a space\n", "schlüssel-lang\n"):
        file.write_text(bad)
        with pytest.raises(UsageError) as caught:
            read_keys(file)
        assert "short\n".strip() not in caught.value.what.replace("is shorter", "")
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "nowhere")


def test_a_server_answers_to_its_own_names_only(index: Path) -> None:
    with running(opened(index), access=AccessSettings(allowed_hosts=("127.0.0.1", "::1"))) as (url, _):
        assert Client(url).get("/v1/models")
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
            response = Client(url, {"Host": host}).http.get("/v1/models")
            assert response.status_code in (400, 421), host
        assert Client(url, {"Host": "[::1]:80"}).get("/v1/models")


def test_other_origins_are_refused_unless_they_are_named(index: Path) -> None:
    preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    with running(opened(index)) as (url, _):
        response = Client(url).http.options("/v1/search", headers=preflight)
        assert "access-control-allow-origin" not in response.headers
        plain = Client(url).http.post("/v1/search", content=json.dumps(SEARCH), headers={"Content-Type": "text/plain"})
        assert plain.status_code == 415
    allowed = AccessSettings(cors_origins=("https://example.org",), keys=(KEY,))
    with running(opened(index), access=allowed) as (url, _):
        response = Client(url).http.options("/v1/search", headers=preflight)
        assert response.headers["access-control-allow-origin"] == "https://example.org"
        other = Client(url).http.options("/v1/search", headers={**preflight, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nowhere", "/openapi.json", "/metrics"])
def test_every_response_has_the_headers_of_safety(plain: Client, path: str) -> None:
    headers = plain.http.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_request_ids_are_kept_where_they_are_plain(plain: Client) -> None:
    assert plain.http.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    for odd in ("a b", "x" * 65, '"}', ""):
        given = plain.http.get("/healthz", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert len(given) == 32
        assert given != odd


def raw(url: str, data: bytes, *, end: bool = True) -> bytes:
    """What a server says to these bytes, until it closes or falls silent."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while b"\r\n\r\n" not in said and (part := connection.recv(65536)):
            said += part
        return said


def head(length: str, extra: str = "") -> bytes:
    return f"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}{extra}\r\n\r\n".encode()


def test_bodies_are_bounded_in_size_time_and_depth(index: Path) -> None:
    limits = {"body_bytes": 2000, "body_seconds": 0.5, "json_depth": 8}
    with running(opened(index), limits) as (url, _):
        client = Client(url)
        assert client.error("/v1/search", {"query": "a" * 3000}, 413)["type"] == "too_large"
        # Refused by what it says of itself, before any of it has come.
        assert b" 413 " in raw(url, head("Content-Length: 100000000"), end=False)
        chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
        assert b" 413 " in raw(url, head("Transfer-Encoding: chunked") + chunk * 3, end=False)
        assert b" 408 " in raw(url, head("Content-Length: 100") + b'{"query"', end=False)
        deep = client.http.post("/v1/search", content=b'{"query":' + b"[" * 500, headers=JSON)
        assert (deep.status_code, deep.json()["error"]["type"]) == (422, "invalid_request")
        assert client.post("/v1/search", {"query": "[[[[[[[[[[[[[[[[[["})["hits"] == []
        assert client.post("/v1/search", SEARCH)["hits"]


def test_depth_is_counted_outside_of_strings() -> None:
    check_depth(rb'{"a": "\"[[[[[[[[", "b": [[]]}', 4)
    check_depth(b'"[[[[[[[[[[', 4)  # not JSON: the parser's to say
    for body in (b'{"a": [[[[1]]]]}', b"[[[[[" + b" " * 50, b"[" * 100_000):
        with pytest.raises(RequestError):
            check_depth(body, 4)


def test_open_requests_are_bounded(index: Path) -> None:
    held = HeldReranker()
    parts = replace(opened(index), reranker=held, reranker_kind="cross-encoder")
    with running(parts, {"requests": 1}) as (url, _):
        client = Client(url)
        waiting = threading.Thread(target=client.post, args=("/v1/search", SEARCH))
        waiting.start()
        assert held.begun.wait(60)
        response = client.http.get("/v1/models")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert client.get("/healthz") == {"status": "ok"}
        held.let_go.set()
        waiting.join(60)
        assert client.get("/v1/models")


def test_an_unforeseen_failure_tells_its_id_and_nothing_else(index: Path, log: io.StringIO) -> None:
    held = HeldReranker(fails="secret")
    held.let_go.set()
    with running(replace(opened(index), reranker=held, reranker_kind="cross-encoder")) as (url, _):
        client = Client(url)
        response = client.http.post("/v1/search", json={"query": "a secret capital"})
        assert response.status_code == 500
        error = response.json()["error"]
        assert error["type"] == "internal_error"
        assert error["request_id"] == response.headers["x-request-id"]
        assert "secret" not in response.text
        assert "RuntimeError" not in response.text
        assert client.post("/v1/search", SEARCH)["hits"], "the server goes on"
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (told,) = (line for line in lines if line.get("exception"))
    assert (told["exception"], told["request_id"]) == ("RuntimeError", error["request_id"])
    assert any("score_pairs" in frame for frame in told["frames"])
    assert "secret" not in log.getvalue()


def test_the_log_has_requests_and_no_texts(index: Path, log: io.StringIO) -> None:
    with running(opened(index), access=AccessSettings(keys=(KEY,))) as (url, _):
        client = Client(url, {"Authorization": f"Bearer {KEY}", "X-Request-ID": "mine"})
        client.post("/v1/search", {"query": "wombats of Vientiane"})
        client.post("/v1/rerank", {"query": "wombats", "documents": ["platypus"]})
        client.post("/v1/search", {"query": "wombats", "surplus": "echidna"}, 422)
        client.http.get("/v1/documents/wombats?limit=numbat")
        client.http.get("/wombats")
    text = log.getvalue()
    for word in ("wombat", "platypus", "echidna", "numbat", "Vientiane", KEY):
        assert word not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/v1/search", 200),
        ("POST", "/v1/rerank", 200),
        ("POST", "/v1/search", 422),
        ("GET", "/v1/documents/{doc_id:path}", 404),
        ("GET", "unmatched", 404),
    ]
    assert all(line["request_id"] == "mine" and line["milliseconds"] >= 0 for line in lines)


def test_a_full_queue_gets_503_and_when_to_come_again(index: Path) -> None:
    held = HeldReranker()
    parts = replace(opened(index), reranker=held, reranker_kind="cross-encoder")
    with running(parts, {"queue": 3, "batch": 2}) as (url, service):
        client = Client(url)
        first = threading.Thread(target=client.post, args=("/v1/search", SEARCH))
        first.start()
        assert held.begun.wait(60)
        responses = []

        def ask() -> None:
            responses.append(client.http.post("/v1/search", json=SEARCH))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3000):
            if len(responses) == 5:
                break
            time.sleep(0.01)
        refused = list(responses)
        held.let_go.set()
        for thread in [*threads, first]:
            thread.join(60)
        assert {response.status_code for response in refused} == {503}
        for response in refused:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["type"] == "overloaded"
        assert sorted(response.status_code for response in responses) == [200] * 3 + [503] * 5
        assert held.batches == [1, 2, 1]
        assert service.ready
        counted = client.http.get("/metrics").text
        assert 'retgen_requests_total{method="POST",route="/v1/search",status="503"} 5.0' in counted


def test_a_deadline_ends_the_wait(index: Path) -> None:
    held = HeldReranker()
    parts = replace(opened(index), reranker=held, reranker_kind="cross-encoder")
    with running(parts, {"deadline_seconds": 60, "max_deadline_seconds": 120}) as (url, _):
        client = Client(url)
        error = client.error("/v1/search", SEARCH, 503, X_Deadline_Seconds="0.2")
        assert error["type"] == "deadline_exceeded"
        waiting = at_once([lambda: client.http.post("/v1/search", json=SEARCH, headers={"X-Deadline-Seconds": "0.2"})])
        assert waiting[0].status_code == 503
        for wrong in ("-1", "0", "nan", "soon"):
            client.error("/v1/search", SEARCH, 422, X_Deadline_Seconds=wrong)
        held.let_go.set()
        assert client.post("/v1/search", SEARCH)["hits"]
        assert held.batches == [1, 1], "what nobody waits for any more is not worked on"


def test_limits_have_sense() -> None:
    with pytest.raises(ValueError, match="queue"):
        Limits.model_validate({"queue": 0})
