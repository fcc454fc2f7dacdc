"""The routes over an index without models: what they give is what the library gives, and fits together."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen import almanac
from retgen.index import Index
from retgen.types import Query
from tests.server.serving import Client, opened, running

LAOS = "What is the capital of Laos?"


def test_search_gives_what_the_index_finds(plain: Client, index: Path) -> None:
    found = plain.post("/v1/search", {"query": LAOS, "top_k": 4})
    hits = Index.open(index).search([Query("q", LAOS)], 4)["q"]
    assert [(hit["id"], hit["rank"]) for hit in found["hits"]] == [(hit.doc_id, hit.rank) for hit in hits]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in hits])
    documents = {document.id: document for document in almanac.documents()}
    for hit in found["hits"]:
        document = documents[hit["id"]]
        assert (hit["title"], hit["text"], hit["metadata"]) == (document.title, document.text, document.metadata)
        assert hit["components"] == {"bm25": hit["score"]}
        assert hit["rank_before"] == hit["rank"]
        assert hit["passage_id"] == hit["id"]
    assert (found["retriever"], found["reranker"], found["weights"]) == ("bm25", None, {})


def test_filters_keep_documents_by_their_metadata(tmp_path: Path) -> None:
    documents = almanac.documents()
    Index.build(documents[:40] + documents[-40:], tmp_path / "index")
    kinds = {str(document.metadata["kind"]) for document in documents[:40] + documents[-40:]}
    assert len(kinds) > 1
    with running(opened(tmp_path / "index")) as (url, _):
        for kind in sorted(kinds):
            body = {"query": "what is the highest of the country", "top_k": 50, "filters": {"kind": kind}}
            hits = Client(url).post("/v1/search", body)["hits"]
            assert {hit["metadata"]["kind"] for hit in hits} <= {kind}


def test_an_answer_cites_where_it_stands(plain: Client) -> None:
    said = plain.post("/v1/answer", {"question": LAOS, "top_k": 2})
    assert said["answer"]
    (citation,) = said["citations"]
    assert (citation["mark"], citation["basis"]) == (1, "read")
    passages = {passage["passage_id"]: passage for passage in said["passages"]}
    cited = passages[citation["passage_id"]]
    assert cited["text"][citation["start"] : citation["end"]] == citation["text"] == said["answer"]
    assert cited["used"]
    assert [citation["start"], citation["end"]] == cited["answer_spans"][0]
    columns = said["columns"]
    assert columns["retrieved"] == [passage["passage_id"] for passage in said["passages"]]
    assert columns["reranked"] == []
    assert columns["used"] == columns["retrieved"][:2]
    assert [passage["rank_retrieved"] for passage in said["passages"]] == list(range(1, len(passages) + 1))
    (only,) = said["rounds"]
    assert (only["round"], only["input"], only["writer"], only["answer"]) == (0, LAOS, None, said["answer"])


def test_a_question_without_hits_has_no_answer(plain: Client) -> None:
    said = plain.post("/v1/answer", {"question": "zzzz qqqq"})
    assert (said["answer"], said["citations"], said["passages"]) == ("", [], [])
    chat = plain.post("/v1/chat/completions", {"model": "retgen", "messages": [{"role": "user", "content": "zzzz"}]})
    assert chat["choices"][0]["message"]["content"] == "No answer was found in the documents."


def test_texts_are_ordered_by_their_own_words_where_no_model_is(plain: Client) -> None:
    texts = ["iron", {"text": "Lao is the language of Laos", "title": "Laos"}, "a language", ""]
    found = plain.post("/v1/rerank", {"query": "language of Laos", "documents": texts, "return_documents": True})
    assert found["model"] == "bm25"
    assert [result["index"] for result in found["results"]] == [1, 2, 0, 3]
    assert found["results"][0]["document"] == texts[1]
    assert [result["relevance_score"] for result in found["results"][2:]] == [0.0, 0.0]
    fewer = plain.post("/v1/rerank", {"query": "language of Laos", "documents": texts, "top_n": 2, "model": "retgen"})
    assert [result["index"] for result in fewer["results"]] == [1, 2]
    assert all(result["document"] is None for result in fewer["results"])


def test_explanations_add_up_to_the_score(plain: Client) -> None:
    (hit, *_) = plain.post("/v1/search", {"query": LAOS})["hits"]
    told = plain.post("/v1/explain", {"query": LAOS, "doc_id": hit["id"]})
    (part,) = told["parts"]
    assert (part["part"], part["tokens_of"]) == ("bm25", "query")
    assert sum(token["score"] for token in part["tokens"]) == pytest.approx(hit["score"], abs=1e-5)
    assert told["components"]["bm25"] == pytest.approx(hit["score"], abs=1e-5)
    assert plain.error("/v1/explain", {"query": LAOS, "doc_id": "nowhere"}, 404)["type"] == "unknown_document_error"


def test_what_cannot_be_done_is_named(plain: Client) -> None:
    def error(path: str, body: object, status: int = 400) -> str:
        found = plain.error(path, body, status)
        assert found["request_id"]
        return f"{found['where']}: {found['message']}"

    assert "no retriever 'dense'" in error("/v1/search", {"query": "x", "with": "dense"})
    assert "no re-ranker" in error("/v1/search", {"query": "x", "rerank": True})
    assert "generator_weight" in error("/v1/search", {"query": "x", "generator_weight": 0.5})
    assert "rounds" in error("/v1/answer", {"question": "x", "rounds": 1})
    assert error("/v1/rerank", {"query": "x", "documents": ["a"], "model": "gpt-9"}, 404).startswith("model: ")
    assert error("/v1/search", {"query": " "}, 422) == "query: is blank"
    assert error("/v1/search", {"query": "x", "topk": 3}, 422).startswith("topk: ")
    assert error("/v1/search", {"query": "a" * 2001}, 422).startswith("query: ")
    assert "no user message" in error(
        "/v1/chat/completions", {"model": "retgen", "messages": [{"role": "system", "content": "x"}]}, 422
    )
    assert plain.get("/nowhere", 404)["error"]["type"] == "not_found"
    assert plain.get("/v1/search", 405)["error"]["type"] == "method_not_allowed"


def test_a_server_says_what_it_is(plain: Client) -> None:
    told = plain.get("/v1/pipeline")
    assert (told["documents"], told["retrievers"], told["reranker"]) == (60, ["bm25"], None)
    assert (told["answerer"], told["explains"], told["can_change"]) == ("best-span", ["bm25"], True)
    assert [model["id"] for model in plain.get("/v1/models")["data"]] == ["retgen", "bm25"]
    assert plain.get("/healthz") == {"status": "ok"}
    assert plain.get("/readyz") == {"status": "ready"}


def test_every_field_of_the_api_has_its_shape_in_the_openapi(plain: Client) -> None:
    described = plain.get("/openapi.json")
    assert set(described["paths"]) >= {
        "/v1/search", "/v1/answer", "/v1/rerank", "/v1/explain", "/v1/chat/completions", "/v1/documents",
        "/v1/documents/{doc_id}", "/v1/models", "/v1/pipeline", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    schemas = described["components"]["schemas"]
    assert "HTTPValidationError" not in str(described["paths"])
    assert schemas["SearchRequest"]["properties"]["query"]["examples"]


def test_a_chunked_index_names_documents_and_their_passages(tmp_path: Path) -> None:
    documents = almanac.documents()[:20]
    index = Index.build(documents, tmp_path / "index", chunk_words=15, chunk_overlap=5)
    with running(opened(tmp_path / "index")) as (url, _):
        client = Client(url)
        hits = client.post("/v1/search", {"query": LAOS, "top_k": 5})["hits"]
        assert [hit["id"] for hit in hits] == index.search([Query("q", LAOS)], 5).doc_ids("q")
        assert all(hit["passage_id"].startswith(f"{hit['id']}::") for hit in hits)
        said = client.post("/v1/answer", {"question": LAOS})
        (citation,) = said["citations"]
        whole = client.get(f"/v1/documents/{citation['doc_id']}")
        text = next(document.text for document in documents if document.id == citation["doc_id"])
        assert whole["text"] == text
        start = next(p["start"] for p in whole["passages"] if p["passage_id"] == citation["passage_id"])
        assert text[start + citation["start"] : start + citation["end"]] == said["answer"]
        assert client.get(f"/v1/documents/{citation['passage_id']}")["id"] == citation["doc_id"]
        assert client.get("/v1/documents?limit=500")["total"] == len(documents)
