"""Query likelihood through an endpoint: the scores of the same model in this process, whatever the characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from retgen.cli import app
from retgen.errors import RetgenError, UsageError
from retgen.formats import read_run, write_run
from retgen.formats.jsonl import write_documents, write_queries
from retgen.llm.client import EndpointClient
from retgen.llm.endpoint import Endpoint
from retgen.llm.errors import CompletionsFailedError
from retgen.llm.faults import RetryPolicy
from retgen.llm.ledger import Ledger
from retgen.models.pretrained import load_tokenizer
from retgen.models.prompt_format import PromptFormat
from retgen.rerank.endpoint_likelihood import EndpointLikelihood
from retgen.rerank.query_likelihood import QueryLikelihood
from retgen.types import Document, Query, Run
from tests.llm.serving import MODEL, delivered, spoiled

PASSAGES = [
    Document("a", "Joseph Priestley discovered oxygen in 1774.", "Oxygen"),
    Document("b", "Iron melts at 1538 °C; tin melts at 232 °C."),
    Document("c", "東京は日本の首都である。", "東京"),
    Document("d", ""),
]
QUERIES = [Query("q0", "who discovered oxygen"), Query("q1", "Wo schmilzt Öl — naïve?"), Query("q2", "東京はどこ 🗼")]
CORPUS = {document.id: document for document in PASSAGES}
RUN = Run.from_dict({query.id: {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0} for query in QUERIES})
MEAN = PromptFormat("mean", "Passage: {title} {text} Question:", " {query}", reduction="mean", append_eos=False)


def reranker(url: str, preset: str | PromptFormat = "upr-causal", ledger: Ledger | None = None) -> EndpointLikelihood:
    return EndpointLikelihood(EndpointClient(Endpoint(url), ledger), MODEL, preset)


@pytest.mark.parametrize("preset", ["upr-causal", MEAN])
def test_scores_are_those_of_the_same_model_here(preset: str | PromptFormat, chat_model: Path, model_url: str) -> None:
    here = QueryLikelihood.from_pretrained(chat_model, preset, dtype="fp32").rerank(QUERIES, RUN, CORPUS)
    there = reranker(model_url, preset).rerank(QUERIES, RUN, CORPUS)
    for query in QUERIES:
        assert there.doc_ids(query.id) == here.doc_ids(query.id)
        assert list(there.scores(query.id)) == pytest.approx(list(here.scores(query.id)), abs=1e-4)


def test_an_explanation_adds_up(chat_model: Path, model_url: str) -> None:
    made = reranker(model_url)
    for query in QUERIES:
        explained = made.explain(query, PASSAGES[0])
        assert sum(value for _, value in explained.tokens) == pytest.approx(explained.components["generator"])
    assert "".join(token for token, _ in made.explain(QUERIES[0], PASSAGES[0]).tokens) == " who discovered oxygen?"


def test_pairs_that_were_scored_are_not_asked_again_and_faults_change_nothing(model_url: str, tmp_path: Path) -> None:
    ledger, log = Ledger(tmp_path / "ledger.sqlite"), tmp_path / "log"
    expected = reranker(model_url).rerank(QUERIES, RUN, CORPUS)
    with spoiled(
        model_url, log, "--faults", "0.4", "--kinds", "refuse,fail,drop,torn", "--retry-after", "0.05"
    ) as proxy:
        client = EndpointClient(Endpoint(proxy), ledger, policy=RetryPolicy(first_wait=0.02, longest_wait=0.1))
        once = EndpointLikelihood(client, MODEL).rerank(QUERIES, RUN, CORPUS)
        again = EndpointLikelihood(client, MODEL).rerank(QUERIES, RUN, CORPUS)
    assert once.to_dict() == again.to_dict() == expected.to_dict()
    assert set(delivered(log).values()) == {1}


def test_long_passages_are_cut(model_url: str) -> None:
    long = Document("long", "word " * 5000)
    made = reranker(
        model_url, PromptFormat("short", "{text} Question:", " {query}", max_passage_tokens=40, append_eos=False)
    )
    cut = Document("cut", "word " * 30)
    run = made.rerank(QUERIES[:1], Run.from_dict({"q0": {"long": 1.0, "cut": 0.5}}), {"long": long, "cut": cut})
    assert run.scores("q0")[0] == run.scores("q0")[1]


def test_what_cannot_be_scored_is_said(chat_model: Path, model_url: str) -> None:
    with pytest.raises(UsageError, match="EOS"):
        reranker(model_url, "jpr")
    made = EndpointLikelihood(EndpointClient(Endpoint(model_url)), MODEL, max_passage_words=5000)
    with pytest.raises(CompletionsFailedError, match="the context holds 512"):
        made.rerank(QUERIES[:1], Run.from_dict({"q0": {"long": 1.0}}), {"long": Document("long", "word " * 2000)})
    joined = reranker(model_url, PromptFormat("joined", "{text}", "{query}", append_eos=False))
    words = [word for word in load_tokenizer(chat_model).get_vocab() if word.isascii() and word.isalpha()]
    word = max(words, key=len)
    document = Document("x", f"about {word[:1]}")
    with pytest.raises(RetgenError, match="begins with a space"):
        joined.rerank([Query("q", word[1:])], Run.from_dict({"q": {"x": 1.0}}), {"x": document})


def test_retgen_rerank_reaches_an_endpoint(model_url: str, tmp_path: Path) -> None:
    write_documents(tmp_path / "corpus.jsonl", [document for document in PASSAGES if document.text])
    write_queries(tmp_path / "queries.jsonl", QUERIES)
    run = Run.from_dict({query.id: {"a": 3.0, "b": 2.0} for query in QUERIES})
    write_run(tmp_path / "run.trec", run)
    arguments = [
        "rerank", str(tmp_path / "run.trec"), "--corpus", str(tmp_path / "corpus.jsonl"),
        "--queries", str(tmp_path / "queries.jsonl"), "--with", "query-likelihood",
        "--out", str(tmp_path / "out.trec"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*arguments, "--endpoint", model_url, "--endpoint-model", MODEL])
    assert result.exit_code == 0, result.output
    expected = reranker(model_url).rerank(QUERIES, run, CORPUS)
    found = read_run(tmp_path / "out.trec")
    for query in QUERIES:
        assert list(found.scores(query.id)) == pytest.approx(list(expected.scores(query.id)))
    alone = CliRunner().invoke(app, [*arguments, "--endpoint", model_url])
    assert alone.exit_code == 2
    assert "--endpoint-model" in alone.output
