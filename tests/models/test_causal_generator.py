"""Decoder-only generators: only the query's tokens count; prompts that are run once score as the plain pass does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig

from retgen.errors import FormatError, MissingExtraError, UsageError
from retgen.models.causal_generator import CausalGenerator
from retgen.models.prompt_format import PRESETS
from tests.models.checkpoints import save_encoder
from tests.models.generators import CAUSAL, PAIRS, PASSAGES, QUERIES, causal, generator, plain_scores, seq2seq
from tests.models.test_query_generator import assert_close, scores

KINDS = pytest.mark.parametrize("kind", CAUSAL)
SHORT = replace(PRESETS["upr-causal"], max_passage_tokens=130, max_query_tokens=20)
BARE = replace(PRESETS["jpr"], max_passage_tokens=60, max_query_tokens=20)


@KINDS
@pytest.mark.parametrize("preset", [SHORT, BARE], ids=["instructed", "bare"])
def test_scores_are_the_plain_forward_passs(kind: str, preset: Any) -> None:
    # Bare prompts may be empty: then they are the token that texts begin with.
    made = generator(kind, preset)
    expected = plain_scores(made, PASSAGES, QUERIES)
    found = scores(made)
    assert_close(found, [expected[query][passage] for query, passage in PAIRS])
    # Where attention has a window, the instruction fills it.
    if "window" not in kind or preset is BARE:
        assert (found[0].sum() - found[1].sum()).abs() > 0.01


@KINDS
def test_batches_padding_and_order_change_nothing(kind: str) -> None:
    expected = scores(generator(kind, SHORT))
    for batch_tokens in (1, 300):
        assert_close(scores(generator(kind, SHORT, batch_tokens=batch_tokens)), expected)
    assert_close(scores(generator(kind, SHORT), PAIRS[::-1])[::-1], expected)


@KINDS
def test_the_query_alone_is_scored(kind: str) -> None:
    made = generator(kind, SHORT)
    targets = made.query_ids(QUERIES)
    for values, (query, _) in zip(scores(made), PAIRS, strict=True):
        assert len(values) == len(targets[query])
    assert made.tokenizer.decode(targets[0]) == " who discovered oxygen?"


def test_prompts_are_run_once() -> None:
    made = generator("gpt2", SHORT, batch_tokens=300)
    model: Any = made.model
    rows: list[int] = []
    widths: list[int] = []

    def watch(module: Any, inputs: Any, output: Any) -> None:
        rows.append(output.shape[0])
        widths.append(output.shape[1])

    handle = model.transformer.wte.register_forward_hook(watch)
    try:
        scores(made)
    finally:
        handle.remove()
    prompts = [count for count, width in zip(rows, widths, strict=True) if width > 40]
    assert sum(prompts) == len(PASSAGES)


def test_a_prompt_never_ends_with_eos() -> None:
    model, tokenizer = causal("gpt2")
    from tokenizers import processors

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made = CausalGenerator(model, tokenizer, SHORT)
    for row in made.passage_ids(PASSAGES):
        assert row[0] == 0
        assert row[-1] != 2


@KINDS
def test_samples_depend_on_seed_and_passage_alone(kind: str) -> None:
    made = generator(kind, SHORT)
    options = {"top_k": 4, "max_new_tokens": 5, "seed": 3}
    together = made.sample(PASSAGES, 2, **options)
    assert [len(row) for row in together] == [2] * len(PASSAGES)
    assert together[3:4] == made.sample(PASSAGES[3:4], 2, **options)
    assert together != made.sample(PASSAGES, 2, **{**options, "seed": 4})


def test_passage_and_query_fit_into_the_model_together() -> None:
    model, tokenizer = causal("gpt2")
    made = CausalGenerator(model, tokenizer, replace(SHORT, max_passage_tokens=600))
    assert made.format.max_passage_tokens == 512 - 20
    with pytest.raises(UsageError, match="at most 492"):
        CausalGenerator(model, tokenizer, SHORT, max_passage_tokens=493)
    with pytest.raises(UsageError, match="no room for a passage"):
        CausalGenerator(model, tokenizer, SHORT, max_query_tokens=512)


def test_from_pretrained_gives_the_same_scores(tmp_path: Path) -> None:
    made = generator("llama", SHORT)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    loaded = CausalGenerator.from_pretrained(tmp_path, SHORT, device="cpu", dtype="fp32")
    assert_close(scores(loaded), scores(made))


def test_quantization_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = causal("gpt2")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("retgen.models.causal_generator.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="bitsandbytes"):
        CausalGenerator.from_pretrained(tmp_path, device="cpu", quantization="int8")
    with pytest.raises(UsageError, match="unknown quantization 'int3'"):
        CausalGenerator.from_pretrained(tmp_path, device="cpu", quantization="int3")


def test_models_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="QueryGenerator"):
        CausalGenerator(*seq2seq("t5"))
    config = BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    save_encoder(tmp_path, config)
    with pytest.raises(FormatError, match="'bert'"):
        CausalGenerator.from_pretrained(tmp_path, device="cpu")


def test_torch_is_left_without_gradients() -> None:
    made = generator("gpt2", SHORT)
    assert not any(values.requires_grad for values in scores(made))
    assert torch.is_grad_enabled()
