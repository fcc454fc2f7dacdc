"""Tiny query generators with random weights, one of each kind, and the plain forward pass that they must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from retgen.models.causal_generator import CausalGenerator
from retgen.models.query_generator import QueryGenerator
from retgen.models.query_model import QueryModel
from retgen.models.warm_generator import QueryGeneratorConfig, QueryGeneratorModel
from retgen.types import Document
from tests.models.checkpoints import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer

SEQ2SEQ = ("t5", "t5 with a head of its own", "bart", "bart with a forced token", "warm", "warm without copying")
CAUSAL = ("gpt2", "llama", "mistral with a window")
KINDS = (*SEQ2SEQ, *CAUSAL)

PASSAGES = [
    Document("a", "Joseph Priestley discovered oxygen in the year 1774.", "Oxygen"),
    Document("b", "The planet Mars has two moons, Phobos and Deimos. " * 3, "Mars"),
    Document("c", ""),
    Document("d", "Iron melts at 1538 °C; tin melts at 232 °C."),
    Document("e", "", "tin"),
]
QUERIES = ["who discovered oxygen", "", "at which temperature does tin melt?", "two moons " * 40]
PAIRS = [(query, passage) for query in range(len(QUERIES)) for passage in range(len(PASSAGES))]


@cache
def seq2seq(kind: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Made once: tokenizers are not trained twice alike. A test that changes one copies it before."""
    torch.manual_seed(1)
    model: Any
    if kind.startswith("t5"):
        tokenizer = sentencepiece_tokenizer()
        # At T5's own initializer_factor of 1 its unscaled attention is so sharp that rounding grows to 3e-4.
        own = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if "own" in kind else {}
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
                relative_attention_num_buckets=8, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
                initializer_factor=0.5, **own,
            )
        )  # fmt: skip
        if own:  # as large as a trained one's: log-probabilities of −30 have no four digits behind the point in fp32
            model.lm_head.weight.data.mul_(0.2)
    elif kind.startswith("bart"):
        tokenizer = byte_level_tokenizer()
        forced = {"forced_bos_token_id": tokenizer.bos_token_id} if "forced" in kind else {}
        model = BartForConditionalGeneration(
            BartConfig(
                vocab_size=len(tokenizer), d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=3,
                decoder_attention_heads=3, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=160,
                pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
            )
        )  # fmt: skip
        model.final_logits_bias.normal_()
        model.generation_config.forced_bos_token_id = forced.get("forced_bos_token_id")
    else:
        tokenizer = wordpiece_tokenizer()
        bert = {
            "model_type": "bert", "vocab_size": len(tokenizer), "hidden_size": 24, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 160,
        }  # fmt: skip
        t5 = {
            "model_type": "t5", "vocab_size": len(tokenizer), "d_model": 24, "d_kv": 8, "num_heads": 2, "d_ff": 32,
            "num_layers": 2, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu",
        }  # fmt: skip
        model = QueryGeneratorModel(
            QueryGeneratorConfig(
                encoder=bert, decoder=t5, vocab_size=len(tokenizer), d_model=24, copy_head="without" not in kind,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.sep_token_id,
                decoder_start_token_id=tokenizer.cls_token_id, special_token_ids=list(tokenizer.all_special_ids),
            )
        )  # fmt: skip
    return lively(model), tokenizer


@cache
def causal(kind: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    torch.manual_seed(1)
    tokenizer = byte_level_tokenizer(PreTrainedTokenizerFast)
    # None of GPT-2's kind puts special tokens around a text.
    tokenizer._tokenizer.post_processor = None
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "bos_token_id": 0,
        "eos_token_id": 2,
    }  # fmt: skip
    model: Any
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=512, bos_token_id=0,
                eos_token_id=2,
            )
        )  # fmt: skip
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=12))
    return lively(model), tokenizer


def lively(model: PreTrainedModel) -> PreTrainedModel:
    """The model with distributions that are not flat, so that a mistake shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def generator(kind: str, preset: Any = None, **options: Any) -> QueryModel:
    if kind in CAUSAL:
        return CausalGenerator(*causal(kind), preset or "upr-causal", **options)
    return QueryGenerator(*seq2seq(kind), preset or "jpr", **options)


def plain_scores(made: QueryModel, passages: Sequence[Document], queries: Sequence[str]) -> list[list[Tensor]]:
    """For each query and passage, one unbatched forward pass over the whole of both."""
    rows = zip(queries, made.query_ids(queries), strict=True)
    inputs = made.passage_ids(passages)
    return [[plain_score(made, passage, target) for passage in inputs] for _, target in rows]


@torch.no_grad()
def plain_score(made: QueryModel, passage: Sequence[int], target: Sequence[int]) -> Tensor:
    model: Any = made.model
    if not target:
        return torch.zeros(0)
    labels = torch.tensor([list(target)])
    ids = torch.tensor([list(passage)])
    if isinstance(made, CausalGenerator):
        logits = model(input_ids=torch.cat([ids, labels], dim=1)).logits[:, ids.shape[1] - 1 : -1]
    else:
        forced = model.generation_config.forced_bos_token_id
        if forced is None:
            logits = model(input_ids=ids, labels=labels).logits
        else:
            written = torch.cat([torch.tensor([[forced]]), labels], dim=1)
            logits = model(input_ids=ids, labels=written).logits[:, 1:]
    return logits.float().log_softmax(dim=-1)[0].gather(1, labels[0][:, None])[:, 0]
