"""Servers with models: re-ranked orders and their components, explanations, readers, UniGen and its rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retgen.answer.fid import FiD
from retgen.generative.unigen import UniGenSettings
from retgen.index import Index
from retgen.models.fid import FiDReader
from retgen.rerank.joint import JointReranker
from retgen.server import PipelineSettings, open_parts
from retgen.types import Document, Query, Run
from tests.models import readers
from tests.server.serving import Client, opened, running
from tests.train.toy import DOCUMENTS, QUESTIONS, toy_system

LAOS = "What is the capital of Laos?"
PARTS = {"bm25", "cross_encoder", "generator", "joint"}


def test_a_search_is_re_ranked_as_the_library_does_it(joint: Client, index: Path, models: tuple[str, str]) -> None:
    found = joint.post("/v1/search", {"query": LAOS, "top_k": 3})
    opened_index = Index.open(index)
    query = Query("q", LAOS)
    before = opened_index.search([query], 10)
    after = JointReranker.from_pretrained(*models, device="cpu").rerank([query], before, opened_index.corpus)["q"]
    ranks = {hit.doc_id: hit.rank for hit in before["q"]}
    assert [hit["id"] for hit in found["hits"]] == [hit.doc_id for hit in after[:3]]
    for shown, hit in zip(found["hits"], after[:3], strict=True):
        assert shown["rank_before"] == ranks[hit.doc_id]
        assert shown["components"] == pytest.approx(dict(hit.components), abs=1e-5)
        assert set(shown["components"]) == PARTS
        assert shown["score"] == shown["components"]["joint"]
    assert (found["reranker"], found["weights"]) == ("jpr", {"cross_encoder": 0.5, "generator": 0.5})
    left = joint.post("/v1/search", {"query": LAOS, "top_k": 3, "rerank": False})
    assert [hit["id"] for hit in left["hits"]] == before.doc_ids("q")[:3]
    assert left["reranker"] is None


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_components_are_enough_to_order_by_another_weight(joint: Client, weight: float) -> None:
    plain = joint.post("/v1/answer", {"question": LAOS})
    asked = joint.post("/v1/answer", {"question": LAOS, "generator_weight": weight})

    def score(passage: dict[str, Any]) -> float:
        parts = passage["components"]
        return float((1 - weight) * parts["cross_encoder"] + weight * parts["generator"])

    retrieved = sorted(plain["passages"], key=lambda passage: passage["rank_retrieved"])
    reordered = sorted(retrieved, key=score, reverse=True)
    assert [p["passage_id"] for p in reordered] == [p["passage_id"] for p in asked["passages"]]
    assert asked["columns"]["reranked"] == [p["passage_id"] for p in asked["passages"]]
    assert asked["columns"]["retrieved"] == plain["columns"]["retrieved"]
    assert asked["weights"] == {"cross_encoder": 1 - weight, "generator": weight}
    assert [p["rank_reranked"] for p in asked["passages"]] == list(range(1, len(reordered) + 1))


def test_texts_are_scored_by_the_models(joint: Client, models: tuple[str, str]) -> None:
    texts = ["Iron is a metal.", "Vientiane is the capital of Laos.", "Iron is a metal."]
    found = joint.post("/v1/rerank", {"query": LAOS, "documents": texts, "model": "jpr"})
    documents = {str(number): Document(str(number), text) for number, text in enumerate(texts)}
    run = JointReranker.from_pretrained(*models, device="cpu")
    order = run.rerank([Query("q", LAOS)], Run.from_dict({"q": dict.fromkeys(documents, 0.0)}), documents)["q"]
    assert [result["index"] for result in found["results"]] == [int(hit.doc_id) for hit in order]
    assert [r["relevance_score"] for r in found["results"]] == pytest.approx([hit.score for hit in order], abs=1e-5)
    assert set(found["results"][0]["components"]) == {"cross_encoder", "generator", "joint"}
    assert found["model"] == "jpr"


def test_tokens_of_the_query_are_explained(joint: Client) -> None:
    told = joint.post("/v1/explain", {"query": LAOS, "doc_id": "country/laos"})
    parts = {part["part"]: part for part in told["parts"]}
    assert list(parts) == ["bm25", "cross_encoder", "generator"]
    tokens = parts["generator"]["tokens"]
    assert parts["generator"]["tokens_of"] == "query"
    assert all(token["score"] <= 0 for token in tokens)
    assert tokens[-1]["special"]
    mean = sum(token["score"] for token in tokens) / len(tokens)
    assert told["components"]["generator"] == pytest.approx(mean, abs=1e-5)
    (searched,) = (h for h in joint.post("/v1/search", {"query": LAOS})["hits"] if h["id"] == "country/laos")
    assert told["components"]["generator"] == pytest.approx(searched["components"]["generator"], abs=1e-4)
    assert parts["cross_encoder"]["tokens_of"] == "passage"


def test_a_trained_reader_answers(tmp_path: Path, index: Path) -> None:
    FiD(readers.reader(FiDReader), passages=2).save(tmp_path / "fid")
    with running(opened(index, reader=tmp_path / "fid")) as (url, _):
        client = Client(url)
        said = client.post("/v1/answer", {"question": LAOS})
        assert client.get("/v1/pipeline")["answerer"] == "fid"
        assert len(said["columns"]["used"]) == 2
        assert said["score"] < 0
        assert all(citation["basis"] == "read" for citation in said["citations"])
        assert bool(said["citations"]) == bool(said["answer"])
        usage = client.post(
            "/v1/chat/completions", {"model": "retgen", "messages": [{"role": "user", "content": LAOS}]}
        )
        assert usage["usage"]["prompt_tokens"] > len(LAOS.split())


@pytest.fixture(scope="module")
def unigen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("unigen")
    index = Index.build(DOCUMENTS, home / "index")
    settings = UniGenSettings(max_input_tokens=96, context="offline:bm25-context")
    toy_system(settings=settings, fingerprint=index.corpus.fingerprint).save(home / "model")
    return home


def test_a_unigen_finds_and_answers_in_rounds(unigen: Path) -> None:
    parts = open_parts(PipelineSettings(index=unigen / "index", model=unigen / "model", device="cpu"))
    assert parts.system is not None
    with running(parts) as (url, _):
        client = Client(url)
        question = QUESTIONS[0].text
        said = client.post("/v1/answer", {"question": question, "rounds": 2})
        assert [each["round"] for each in said["rounds"]] == [0, 1, 2]
        assert all(each["writer"] and each["input"].startswith(question) for each in said["rounds"])
        assert said["answer"] == said["rounds"][-1]["answer"]
        assert said["columns"]["used"] == []
        assert all(citation["basis"] == "alongside" for citation in said["citations"])
        assert all(set(passage["components"]) == {"unigen"} for passage in said["passages"])
        hits = client.post("/v1/search", {"query": question, "top_k": 3})["hits"]
        query = Query("q", question)
        assert [hit["id"] for hit in hits] == parts.system.search([query], k=10).doc_ids("q")[:3]
        assert client.post("/v1/answer", {"question": question, "with": "bm25"})["retriever"] == "bm25"
        assert "filters" in client.error("/v1/search", {"query": "x", "filters": {"a": "b"}}, 400)["where"]
        told = client.get("/v1/pipeline")
        assert (told["answerer"], told["rounds"], told["can_change"]) == ("unigen", True, False)
        refused = client.error("/v1/documents", {"documents": [{"text": "new"}]}, 501)
        assert "UniGen" in refused["message"]
