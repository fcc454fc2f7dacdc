"""Query likelihood: the plain forward pass's scores, whatever the batches, blocks and cache; every query is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retgen.errors import ArtefactError, FormatError, MismatchError, UsageError
from retgen.models.causal_generator import CausalGenerator
from retgen.models.generator_sources import save_generator
from retgen.models.prompt_format import PRESETS
from retgen.models.query_generator import QueryGenerator
from retgen.rerank.query_likelihood import QueryLikelihood
from retgen.types import Document, Query, Run
from tests.conformance import RERANKER_CHECKS, name_of
from tests.models.generators import KINDS, PASSAGES, QUERIES, generator, plain_scores, seq2seq

TOLERANCE = 1e-4
SHORT = replace(PRESETS["jpr"], max_passage_tokens=60, max_query_tokens=20)
UPR = replace(PRESETS["upr"], max_passage_tokens=120, max_query_tokens=20)
ASKED = [Query(f"q{number}", text) for number, text in enumerate(QUERIES)]
CORPUS = {document.id: document for document in PASSAGES}
RUN = Run(
    [query.id for query in ASKED],
    [["a", "b", "c", "d", "e"], ["b", "e"], ["d"], ["e", "c", "a"]],
    [[5.0, 4.0, 3.0, 2.0, 1.0], [2.0, 1.0], [1.0], [3.0, 2.0, 1.0]],
)


def scores(run: Run) -> dict[tuple[str, str], float]:
    return {(query, hit.doc_id): hit.components["generator"] for query in run for hit in run[query]}


def assert_same(found: Run, expected: dict[tuple[str, str], float]) -> None:
    assert scores(found).keys() == expected.keys()
    for pair, value in scores(found).items():
        assert value == pytest.approx(expected[pair], abs=TOLERANCE), pair


@pytest.mark.parametrize("kind", ["t5", "warm", "gpt2"])
@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_query_likelihood_conforms(check: Callable[..., None], kind: str) -> None:
    check(lambda: QueryLikelihood(generator(kind, SHORT)), tolerance=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_scores_are_the_plain_forward_passs(kind: str, reduction: str) -> None:
    made = generator(kind, replace(SHORT, reduction=reduction))
    plain = plain_scores(made, PASSAGES, QUERIES)
    places = {document.id: place for place, document in enumerate(PASSAGES)}
    expected = {}
    for number, query in enumerate(ASKED):
        for doc_id in RUN.doc_ids(query.id):
            values = plain[number][places[doc_id]]
            expected[query.id, doc_id] = float(values.sum() if reduction == "sum" else values.mean())
    found = QueryLikelihood(made).rerank(ASKED, RUN, CORPUS)
    if reduction == "mean":
        assert_same(found, expected)
    else:  # 1e-4 a token
        lengths = {query.id: len(made.query_ids([query.text])[0]) for query in ASKED}
        for pair, value in scores(found).items():
            assert value == pytest.approx(expected[pair], abs=TOLERANCE * lengths[pair[0]])
    for query in found:
        values = [hit.score for hit in found[query]]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("kind", ["t5", "warm", "gpt2"])
def test_blocks_batches_and_orders_change_nothing(kind: str) -> None:
    expected = scores(QueryLikelihood(generator(kind, SHORT)).rerank(ASKED, RUN, CORPUS))
    for batch_tokens, block_tokens in ((1, 1), (70, 65_536), (8_192, 70)):
        made = QueryLikelihood(generator(kind, SHORT, batch_tokens=batch_tokens), block_tokens=block_tokens)
        assert_same(made.rerank(ASKED, RUN, CORPUS), expected)
    backwards = QueryLikelihood(generator(kind, SHORT)).rerank(ASKED[::-1], RUN, CORPUS)
    assert_same(backwards, expected)
    for query in ASKED:
        alone = QueryLikelihood(generator(kind, SHORT)).rerank([query], RUN, CORPUS)
        assert_same(alone, {pair: value for pair, value in expected.items() if pair[0] == query.id})


def test_every_passage_is_encoded_once() -> None:
    made = copied("t5")
    rows = count_encoded(made)
    QueryLikelihood(made, block_tokens=70).rerank(ASKED, RUN, CORPUS)
    assert sum(rows) == len(PASSAGES)


def count_encoded(made: Any) -> list[int]:
    rows: list[int] = []
    made.model.get_encoder().register_forward_hook(
        lambda module, inputs, output: rows.append(len(output.last_hidden_state))
    )
    return rows


def copied(kind: str, preset: Any = SHORT) -> QueryGenerator:
    """A generator that a test may put hooks on."""
    model, tokenizer = seq2seq(kind)
    return QueryGenerator(copy.deepcopy(model), tokenizer, preset)


@pytest.mark.parametrize("kind", ["t5", "warm"])
def test_a_cache_changes_nothing_and_spares_the_encoder(kind: str, tmp_path: Path) -> None:
    expected = scores(QueryLikelihood(generator(kind, SHORT)).rerank(ASKED, RUN, CORPUS))
    cold = QueryLikelihood(copied(kind), state_cache=tmp_path / "cache", block_tokens=70)
    assert_same(cold.rerank(ASKED, RUN, CORPUS), expected)
    made = copied(kind)
    rows = count_encoded(made)
    warm = QueryLikelihood(made, state_cache=tmp_path / "cache")
    assert_same(warm.rerank(ASKED, RUN, CORPUS), expected)
    assert rows == []
    # A passage that is not in it yet is encoded, the others not.
    more = {**CORPUS, "f": Document("f", "tin melts")}
    longer = Run.from_dict({"q0": {"a": 2.0, "f": 1.0}})
    warm.rerank(ASKED[:1], longer, more)
    assert sum(rows) == 1


def test_the_key_of_a_cache_is_what_the_encoder_reads(tmp_path: Path) -> None:
    QueryLikelihood(copied("t5"), state_cache=tmp_path).rerank(ASKED, RUN, CORPUS)
    changed = {**CORPUS, "a": Document("a", "Iron melts at 1538 °C", "Iron")}
    expected = scores(QueryLikelihood(copied("t5", UPR)).rerank(ASKED, RUN, changed))
    found = QueryLikelihood(copied("t5", UPR), state_cache=tmp_path).rerank(ASKED, RUN, changed)
    for pair, value in scores(found).items():
        assert value == pytest.approx(expected[pair], abs=TOLERANCE * 20)


def test_caches_that_cannot_be_used(tmp_path: Path) -> None:
    QueryLikelihood(copied("t5"), state_cache=tmp_path / "cache").rerank(ASKED, RUN, CORPUS)
    with pytest.raises(MismatchError, match="another encoder"):
        QueryLikelihood(copied("bart"), state_cache=tmp_path / "cache")
    model, tokenizer = seq2seq("t5")
    half = QueryGenerator(copy.deepcopy(model).to(torch.bfloat16), tokenizer, SHORT)
    with pytest.raises(MismatchError, match="another dtype"):
        QueryLikelihood(half, state_cache=tmp_path / "cache")
    file = next((tmp_path / "cache").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtefactError, match="torn"):
        QueryLikelihood(copied("t5"), state_cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="no encoder"):
        QueryLikelihood(generator("gpt2", SHORT), state_cache=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["t5", "warm", "gpt2"])
def test_passages_with_one_text_score_equal(kind: str) -> None:
    twins = {**CORPUS, **{f"a{number}": Document(f"a{number}", CORPUS["a"].text, "Oxygen") for number in range(3)}}
    run = Run.from_dict({"q0": {"b": 9.0, "a2": 8.0, "d": 7.0, "a": 6.0, "c": 5.0, "a1": 4.0}})
    found = QueryLikelihood(generator(kind, SHORT)).rerank(ASKED[:1], run, twins)
    values = {hit.doc_id: hit.score for hit in found["q0"]}
    assert values["a"] == values["a1"] == values["a2"]
    assert [hit.doc_id for hit in found["q0"] if hit.doc_id.startswith("a")] == ["a2", "a", "a1"]


@pytest.mark.parametrize("kind", ["t5", "bart", "warm", "gpt2"])
def test_empty_and_endless_queries_and_passages(kind: str) -> None:
    made = generator(kind, SHORT)
    asked = [Query("none", ""), Query("space", "  "), Query("long", "moons " * 600)]
    run = Run(["none", "space", "long"], [list(CORPUS)] * 3, [[1.0] * len(CORPUS)] * 3)
    found = QueryLikelihood(made).rerank(asked, run, CORPUS)
    assert list(found) == ["none", "space", "long"]
    assert all(sorted(found.doc_ids(query)) == sorted(CORPUS) for query in found)
    assert len(made.query_ids([asked[2].text])[0]) == 20
    # The EOS alone is scored where there is no query.
    assert list(found.scores("none")) == list(found.scores("space"))
    assert len(set(found.scores("none"))) == len(CORPUS)


def test_without_eos_an_empty_query_tells_no_passage_from_another() -> None:
    made = QueryLikelihood(generator("t5", replace(SHORT, append_eos=False)))
    found = made.rerank([Query("none", "")], Run.from_dict({"none": {"a": 2.0, "b": 1.0}}), CORPUS)
    assert [(hit.doc_id, hit.score) for hit in found["none"]] == [("a", 0.0), ("b", 0.0)]


def test_the_instruction_survives_a_long_passage() -> None:
    made = generator("t5", UPR)
    long = Document("long", "two moons " * 500, "Mars")
    ids = made.passage_ids([long, PASSAGES[0]])
    assert len(ids[0]) <= 120
    assert ids[0][-20:] == ids[1][-20:]


@pytest.mark.parametrize("kind", KINDS)
def test_an_explanation_adds_up(kind: str) -> None:
    made = QueryLikelihood(generator(kind, SHORT))
    explained = made.explain(ASKED[2], CORPUS["d"])
    (hit,) = made.rerank(ASKED[2:3], RUN, CORPUS)["q2"]
    assert (explained.query_id, explained.doc_id) == ("q2", "d")
    assert explained.components["generator"] == pytest.approx(hit.score, abs=TOLERANCE)
    assert np.mean([value for _, value in explained.tokens]) == pytest.approx(hit.score, abs=TOLERANCE)
    assert len(explained.tokens) == len(made.generator.query_ids([ASKED[2].text])[0])
    assert explained.tokens[-1][0] in ("</s>", "[SEP]")


def test_progress_counts_every_pair() -> None:
    calls: list[tuple[int, int]] = []
    made = QueryLikelihood(generator("t5", SHORT), block_tokens=40)
    made.rerank(ASKED, RUN, CORPUS, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 1
    assert calls == sorted(calls)
    assert calls[-1] == (11, 11)


def test_weights_that_are_not_numbers_are_an_error() -> None:
    made = copied("t5")
    with torch.no_grad():
        made.model.get_input_embeddings().weight[5:] = float("nan")
    with pytest.raises(ArtefactError, match="not a number"):
        QueryLikelihood(made).rerank(ASKED, RUN, CORPUS)


@pytest.mark.parametrize("kind", ["t5", "bart", "warm", "gpt2"])
def test_the_configuration_says_what_kind_of_model_it_is(kind: str, tmp_path: Path) -> None:
    made = generator(kind, SHORT)
    if kind == "warm":
        save_generator(made.model, made.tokenizer, tmp_path / "model")  # type: ignore[arg-type]
    else:
        made.model.save_pretrained(tmp_path / "model")
        made.tokenizer.save_pretrained(tmp_path / "model")
    loaded = QueryLikelihood.from_pretrained(tmp_path / "model", SHORT, device="cpu", dtype="fp32")
    assert isinstance(loaded.generator, CausalGenerator if kind == "gpt2" else QueryGenerator)
    assert_same(loaded.rerank(ASKED, RUN, CORPUS), scores(QueryLikelihood(made).rerank(ASKED, RUN, CORPUS)))
    assert loaded.settings["preset"] == "jpr"
    by_default = QueryLikelihood.from_pretrained(tmp_path / "model", device="cpu", dtype="fp32")
    assert by_default.settings["preset"] == ("upr-causal" if kind == "gpt2" else "jpr")


def test_options_that_cannot_be_used(tmp_path: Path) -> None:
    model, tokenizer = seq2seq("t5")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="only decoder-only models are quantized"):
        QueryLikelihood.from_pretrained(tmp_path, device="cpu", quantization="int8")
    with pytest.raises(UsageError, match="unknown prompt format 'upr2'"):
        QueryLikelihood.from_pretrained(tmp_path, "upr2", device="cpu")
    with pytest.raises(UsageError, match="block_tokens"):
        QueryLikelihood(generator("t5"), block_tokens=0)
    with pytest.raises(FormatError):
        QueryLikelihood.from_pretrained(tmp_path / "nothing", device="cpu")


def test_random_models_differ() -> None:
    # What the tests above compare is of a model that tells passages apart.
    values = QueryLikelihood(generator("t5", SHORT)).rerank(ASKED, RUN, CORPUS).scores("q0")
    assert np.ptp(values) > 100 * TOLERANCE
