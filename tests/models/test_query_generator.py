"""Query generators on an encoder: scores are the plain forward pass's; samples depend on seed and passage alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retgen.errors import UsageError
from retgen.models.prompt_format import PRESETS
from retgen.models.query_generator import QueryGenerator
from retgen.types import Document
from tests.models.generators import PAIRS, PASSAGES, QUERIES, SEQ2SEQ, causal, generator, plain_scores, seq2seq

TOLERANCE = 1e-4
KINDS = pytest.mark.parametrize("kind", SEQ2SEQ)
SHORT = replace(PRESETS["jpr"], max_passage_tokens=40, max_query_tokens=20)


def scores(made: Any, pairs: list[tuple[int, int]] = PAIRS) -> list[Tensor]:
    return made.token_log_likelihoods(made.encode(PASSAGES), QUERIES, pairs)


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=TOLERANCE, rtol=0)


@KINDS
@pytest.mark.parametrize("preset", ["jpr", "upr"])
def test_scores_are_the_plain_forward_passs(kind: str, preset: str) -> None:
    made = generator(kind, replace(PRESETS[preset], max_passage_tokens=120, max_query_tokens=30))
    expected = plain_scores(made, PASSAGES, QUERIES)
    found = scores(made)
    assert_close(found, [expected[query][passage] for query, passage in PAIRS])
    assert all(values.dtype == torch.float32 and (values <= 1e-6).all() for values in found)
    # The scores differ from passage to passage, so that agreeing says something.
    assert (found[0].sum() - found[1].sum()).abs() > 100 * TOLERANCE


@KINDS
def test_batches_padding_and_order_change_nothing(kind: str) -> None:
    expected = scores(generator(kind, SHORT))
    one_by_one = generator(kind, SHORT, batch_tokens=1)
    assert_close(scores(one_by_one), expected)
    assert_close(scores(generator(kind, SHORT, batch_tokens=90)), expected)
    backwards = scores(generator(kind, SHORT), PAIRS[::-1])
    assert_close(backwards[::-1], expected)
    made = generator(kind, SHORT)
    few = [PAIRS[7], PAIRS[2], PAIRS[7]]
    assert_close(scores(made, few), [expected[7], expected[2], expected[7]])


@KINDS
def test_states_are_the_encoders_own_rows(kind: str) -> None:
    made = generator(kind, SHORT)
    ids = made.passage_ids(PASSAGES)
    for passage, row in zip(made.encode(PASSAGES), ids, strict=True):
        model: Any = made.model
        with torch.no_grad():
            alone = model.get_encoder()(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)))
        assert passage.token_ids == tuple(row)
        assert passage.states is not None
        torch.testing.assert_close(passage.states, alone.last_hidden_state[0], atol=TOLERANCE, rtol=0)


def test_nothing_to_score() -> None:
    made = generator("t5", SHORT)
    assert made.encode([]) == []
    assert made.token_log_likelihoods(made.encode(PASSAGES), QUERIES, []) == []
    silent = generator("t5", replace(SHORT, append_eos=False))
    assert [len(values) for values in silent.token_log_likelihoods(silent.encode(PASSAGES[:1]), [""], [(0, 0)])] == [0]


@pytest.mark.parametrize("kind", ["t5", "bart", "warm"])
def test_log_probabilities_of_a_bf16_model_are_computed_in_fp32(kind: str) -> None:
    model, tokenizer = seq2seq(kind)
    half = copy.deepcopy(model).to(torch.bfloat16)
    made = QueryGenerator(half, tokenizer, SHORT)
    found = torch.cat(scores(made))
    assert found.dtype == torch.float32
    # Numbers of bf16 have 16 zero bits at the end in fp32.
    bits = found.view(torch.int32) & 0xFFFF
    assert (bits != 0).float().mean() > 0.9
    # It is another model, rounded, but not much of one.
    exact = torch.cat(scores(QueryGenerator(model, tokenizer, SHORT)))
    assert (found - exact).abs().median() < 0.2


def test_only_real_targets_go_through_the_head() -> None:
    made = generator("t5", SHORT)
    seen: list[int] = []
    head: Any = made.model.get_output_embeddings()
    states = made.encode(PASSAGES)
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[:-1].numel()))
    try:
        made.token_log_likelihoods(states, QUERIES, PAIRS)
    finally:
        handle.remove()
    # And one position where the passages' keys and values are made.
    targets = sum(len(made.query_ids([QUERIES[query]])[0]) for query, _ in PAIRS)
    assert sum(seen) - targets <= len(PASSAGES)


def test_keys_and_values_are_projected_once_a_passage() -> None:
    made = generator("t5", SHORT, batch_tokens=100)
    model: Any = made.model
    states = made.encode(PASSAGES)
    rows: list[int] = []
    attention = model.decoder.block[0].layer[1].EncDecAttention
    handle = attention.k.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    try:
        made.token_log_likelihoods(states, QUERIES, PAIRS)
    finally:
        handle.remove()
    assert sum(rows) == len(PASSAGES)


@KINDS
def test_samples_depend_on_seed_and_passage_alone(kind: str) -> None:
    made = generator(kind, SHORT)
    options = {"top_k": 4, "max_new_tokens": 6, "seed": 3}
    together = made.sample(PASSAGES, 3, **options)
    assert [len(row) for row in together] == [3] * len(PASSAGES)
    assert together == made.sample(PASSAGES, 3, **options)
    assert together[3:4] == made.sample(PASSAGES[3:4], 3, **options)
    assert [row[:2] for row in together] == made.sample(PASSAGES, 2, **options)
    assert together != made.sample(PASSAGES, 3, **{**options, "seed": 4})
    assert len({query for row in together for query in row}) > 3


def test_samples_leave_torchs_random_numbers_alone() -> None:
    made = generator("t5", SHORT)
    before = torch.random.get_rng_state()
    made.sample(PASSAGES[:1], 2, max_new_tokens=3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_draws_follow_the_softmax_of_the_likeliest() -> None:
    import numpy as np

    from retgen.models.query_sampling import TopKDraws

    logits = torch.tensor([1.0, 3.0, 2.5, -1.0, 2.0])
    draws = TopKDraws([np.random.default_rng(number) for number in range(4000)], 3, temperature=0.7)
    found = draws(torch.zeros(4000, 1), logits.expand(4000, -1)).argmax(dim=-1)
    share = torch.bincount(found, minlength=5) / 4000
    expected = torch.zeros(5)
    expected[[1, 2, 4]] = (logits[[1, 2, 4]] / 0.7).softmax(dim=0)
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)


def test_one_token_to_draw_from_gives_one_query() -> None:
    made = generator("t5", SHORT)
    (row,) = made.sample(PASSAGES[:1], 3, top_k=1, max_new_tokens=5)
    assert len(set(row)) == 1
    assert made.sample(PASSAGES[:1], 3, top_k=1, max_new_tokens=5, unique=True) == [row[:1]]


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"top_k": 0}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"seed": -1}], ids=str
)
def test_unusable_sampling(options: dict[str, Any]) -> None:
    made = generator("t5", SHORT)
    with pytest.raises(UsageError):
        made.sample(PASSAGES[:1], **{"n": 1, **options})


def test_lengths_beyond_the_model() -> None:
    model, tokenizer = seq2seq("warm")
    made = QueryGenerator(model, tokenizer, "jpr")
    assert made.settings["max_passage_tokens"] == 160
    with pytest.raises(UsageError, match="at most 160"):
        QueryGenerator(model, tokenizer, "jpr", max_passage_tokens=161)
    long = Document("long", "moons of Mars " * 400)
    (states,) = made.encode([long])
    assert len(states.token_ids) == 160


def test_settings_say_how_a_score_was_made() -> None:
    settings = generator("t5", "upr", max_passage_tokens=100).settings
    assert settings["preset"] == "upr"
    assert settings["max_passage_tokens"] == 100
    assert settings["reduction"] == "sum"
    assert "Please write a question" in str(settings["passage_template"])


def test_models_that_cannot_be_asked() -> None:
    model, tokenizer = seq2seq("t5")
    with pytest.raises(UsageError, match="training mode"):
        QueryGenerator(copy.deepcopy(model).train(), tokenizer)
    with pytest.raises(UsageError, match="not an encoder-decoder"):
        QueryGenerator(*causal("gpt2"))


def test_the_encoders_fingerprint_is_of_its_weights_and_dtype() -> None:
    model, tokenizer = seq2seq("t5")
    made = QueryGenerator(model, tokenizer)
    same = QueryGenerator(copy.deepcopy(model), tokenizer, "upr")
    assert made.encoder_fingerprint() == same.encoder_fingerprint()
    half = QueryGenerator(copy.deepcopy(model).to(torch.bfloat16), tokenizer)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_encoder().block[0].layer[0].SelfAttention.q.weight[0, 0] += 1e-3
    prints = {one.encoder_fingerprint() for one in (made, half, QueryGenerator(other, tokenizer))}
    assert len(prints) == 3
