"""Documents added are found at once and after a restart; removed ones are not; what cannot be done is said."""

from __future__ import annotations

from pathlib import Path

from retgen import almanac
from retgen.index import Index
from retgen.types import Query, Triplet
from tests.server.serving import Client, at_once, opened, running

SCRIPT = "<script>alert('zorblax')</script> & <b>bold</b>"


def found(client: Client, query: str) -> list[str]:
    return [hit["id"] for hit in client.post("/v1/search", {"query": query})["hits"]]


def test_documents_come_and_go(tmp_path: Path) -> None:
    Index.build(almanac.documents()[:10], tmp_path / "index")
    with running(opened(tmp_path / "index")) as (url, _):
        client = Client(url)
        new = {"id": "notes/a b", "text": SCRIPT, "title": "Züge", "metadata": {"year": 1999, "tags": ["x", "y"]}}
        added = client.post("/v1/documents", {"documents": [new, {"text": "quuxling of Vientiane"}]}, 201)
        assert added["documents"] == 12
        assert added["added"][0] == "notes/a b"
        assert found(client, "zorblax") == ["notes/a b"]
        (hit,) = client.post("/v1/search", {"query": "zorblax", "filters": {"tags": "y", "year": 1999}})["hits"]
        assert (hit["text"], hit["title"], hit["metadata"]) == (SCRIPT, "Züge", new["metadata"])
        read = client.get("/v1/documents/notes/a%20b")
        assert (read["text"], read["metadata"]) == (SCRIPT, new["metadata"])
        assert found(client, "quuxling") == [added["added"][1]]

        error = client.error("/v1/documents", {"documents": [{"id": "x", "text": "x"}, new]}, 409)
        assert "'notes/a b'" in error["message"]
        assert client.get("/v1/documents/x", 404)["error"]["type"] == "unknown_document_error"
        again = {"documents": [{**new, "text": "plover"}, {"id": "x", "text": "x"}], "replace": True}
        assert client.post("/v1/documents", again, 201)["replaced"] == ["notes/a b"]
        assert (found(client, "zorblax"), found(client, "plover")) == ([], ["notes/a b"])
        assert client.delete("/v1/documents/x") == {"removed": "x", "documents": 12}
        assert client.delete("/v1/documents/x", 404)["error"]["message"] == "no document with id 'x'"
    with running(opened(tmp_path / "index")) as (url, _):
        assert found(Client(url), "plover") == ["notes/a b"]
        assert Client(url).get("/v1/documents")["total"] == 12


def test_pages_of_documents_are_all_of_them_once(plain: Client) -> None:
    ids: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = plain.get(f"/v1/documents?offset={offset}&limit=7")
        assert page["total"] == 60
        ids += [row["id"] for row in page["documents"]]
        offset = page["next_offset"]
    assert ids == [document.id for document in almanac.documents()[:60]]
    assert plain.get("/v1/documents?offset=1000")["documents"] == []
    assert plain.get("/v1/documents?limit=0", 422)["error"]["where"] == "limit"


def test_changes_made_at_once_are_all_made(tmp_path: Path) -> None:
    Index.build(almanac.documents()[:5], tmp_path / "index")
    with running(opened(tmp_path / "index")) as (url, _):
        client = Client(url)

        def add(number: int) -> int:
            body = {"documents": [{"id": f"n{number % 6}", "text": f"wombat number {number % 6}"}]}
            return int(client.http.post("/v1/documents", json=body).status_code)

        statuses = at_once([lambda n=n: add(n) for n in range(12)])
        assert sorted(statuses) == [201] * 6 + [409] * 6
        assert len(found(client, "wombat")) == 6
        assert len(at_once([lambda n=n: client.delete(f"/v1/documents/n{n}") for n in range(6)])) == 6
        assert found(client, "wombat") == []
    assert len(Index.open(tmp_path / "index", verify=True)) == 5


def test_searches_go_on_while_documents_change(tmp_path: Path) -> None:
    Index.build(almanac.documents()[:30], tmp_path / "index")
    with running(opened(tmp_path / "index")) as (url, _):
        client = Client(url)

        def change(number: int) -> None:
            client.post("/v1/documents", {"documents": [{"id": f"n{number}", "text": "wombat"}]}, 201)
            assert f"n{number}" in found(client, "wombat")
            client.delete(f"/v1/documents/n{number}")
            assert f"n{number}" not in found(client, "wombat")

        searches = [lambda: len(found(client, "what is the capital of Laos?")) for _ in range(40)]
        results = at_once([*(lambda n=n: change(n) for n in range(3)), *searches])
        assert set(results[3:]) == {10}


def test_the_last_document_stays_and_fixed_indexes_are_named(tmp_path: Path) -> None:
    documents = almanac.documents()[:3]
    Index.build(documents[:1], tmp_path / "one")
    with running(opened(tmp_path / "one")) as (url, _):
        assert Client(url).delete(f"/v1/documents/{documents[0].id}", 409)["error"]["type"] == "conflict"
    pseudo = [Triplet(Query("p", "who?"), (), (documents[0].id,))]
    Index.build(documents, tmp_path / "fixed", pseudo_queries=pseudo)
    with running(opened(tmp_path / "fixed")) as (url, _):
        client = Client(url)
        error = client.error("/v1/documents", {"documents": [{"text": "new"}]}, 501)
        assert error["type"] == "fixed_index_error"
        assert "doct5query" in error["message"]
        assert client.get("/v1/pipeline")["cannot_change_because"] == error["message"]
    with running(opened(tmp_path / "one", read_only=True)) as (url, _):
        assert Client(url).error("/v1/documents", {"documents": [{"text": "new"}]}, 403)["type"] == "read_only"


def test_bad_documents_are_refused_whole(plain: Client) -> None:
    def error(*documents: object, status: int = 422) -> str:
        found_error = plain.error("/v1/documents", {"documents": list(documents)}, status)
        return str(found_error["where"])

    assert error({"text": "a\u0000b"}) == "documents.0.text"
    assert error({"text": "fine"}, {"text": ""}) == "documents.1.text"
    assert error({"text": "a", "id": "a\nb"}) == "documents.0.id"
    assert error({"text": "a", "id": "a"}, {"text": "b", "id": "a"}) == "documents"
    assert error({"text": "a", "metadata": {"x": {"y": 1}}}).startswith("documents.0.metadata")
    assert error({"text": "a" * 200_001}, status=413) == "documents.0"
    assert error(*[{"text": "a"}] * 1001, status=413) == "documents"
    assert error() == "documents"
    assert plain.get("/v1/documents")["total"] == 60
