"""Eight passages, six questions about them, and models of a few thousand weights: tests of joint fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tokenizers import processors
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from retgen.models.prompt_format import PromptFormat
from retgen.models.query_generator import QueryGenerator
from retgen.models.warm_generator import QueryGeneratorConfig, QueryGeneratorModel
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint import JointTraining
from retgen.train.joint_batches import JointCollator
from retgen.types import Document, Query
from tests.models.checkpoints import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer

DOCUMENTS = {
    name: Document(name, text, title)
    for name, title, text in (
        ("oxygen", "Oxygen", "Joseph Priestley discovered oxygen in the year 1774."),
        ("mars", "Mars", "The planet Mars has two moons, Phobos and Deimos."),
        ("iron", "", "Iron melts at 1538 °C."),
        ("tin", "Tin", "Tin melts at 232 °C."),
        ("moons", "", "The two moons of Mars are Phobos and Deimos, the year 1774."),
        ("reader", "Reader", "The reader asks who discovered the moons."),
        ("year", "", "In the year 1774 the reader discovered tin."),
        ("empty", "", ""),
    )
}
QUESTIONS = tuple(
    LabelledCandidates(Query(f"q{number}", text), tuple(passages), tuple(int(name in gold) for name in passages))
    for number, (text, passages, gold) in enumerate(
        (
            ("who discovered oxygen?", ["year", "oxygen", "reader", "tin"], {"oxygen"}),
            ("how many moons has Mars", ["mars", "moons", "oxygen"], {"mars", "moons"}),
            ("when melts iron", ["tin", "iron", "empty", "year", "mars"], {"iron"}),
            ("tin", ["iron", "year"], {"year"}),
            ("who asks", ["oxygen", "reader", "iron"], {"reader"}),
            ("what melts at 232", ["mars", "iron", "tin", "empty"], {"tin"}),
        )
    )
)
PROMPT = PromptFormat("toy", max_passage_tokens=40, max_query_tokens=16)
GENERATORS = ("t5", "bart", "warm", "warm, copying")


def toy_options(**options: Any) -> JointTraining:
    """A few quick steps in fp32."""
    usual: dict[str, Any] = {
        "max_steps": 4, "batch_size": 2, "learning_rate": 1e-3, "generator_learning_rate": 2e-3, "alpha": 0.5,
        "warmup_steps": 1, "precision": "fp32", "preset": PROMPT, "max_pair_tokens": 48, "save_steps": 100,
    }  # fmt: skip
    return JointTraining(**{**usual, **options})


# Trained once: of equally frequent pieces another one may be chosen each time.
_sentencepiece, _byte_level, _wordpiece = (
    cache(make) for make in (sentencepiece_tokenizer, byte_level_tokenizer, wordpiece_tokenizer)
)


@cache
def pair_tokenizer() -> PreTrainedTokenizerBase:
    """BERT's way of writing a pair."""
    made = wordpiece_tokenizer()
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, made.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")],
    )
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def toy_cross_encoder(
    *, dropout: float = 0.0, seed: int = 0, outputs: int = 1
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random cross-encoder whose scores differ from passage to passage."""
    torch.manual_seed(seed)
    tokenizer = pair_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels = outputs
    return _spread(BertForSequenceClassification(config)), tokenizer


def toy_generator(
    kind: str = "t5", *, dropout: float = 0.0, seed: int = 0, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random query generator of each family."""
    torch.manual_seed(seed)
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    if kind == "t5":
        tokenizer = _sentencepiece()
        model = T5ForConditionalGeneration(T5Config(vocab_size=96, **_t5_shape(dropout)))
    elif kind == "bart":
        tokenizer = _byte_level()
        config = BartConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64,
            dropout=dropout, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        model = BartForConditionalGeneration(config)
    else:
        tokenizer = _wordpiece()
        encoder = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=64, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        model = QueryGeneratorModel(
            QueryGeneratorConfig(
                encoder={**encoder.to_diff_dict(), "model_type": "bert"},
                decoder={"vocab_size": len(tokenizer), **_t5_shape(dropout)},
                vocab_size=len(tokenizer), d_model=16, copy_head=kind == "warm, copying",
                special_token_ids=tokenizer.all_special_ids, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.sep_token_id, decoder_start_token_id=tokenizer.cls_token_id, **options,
            )
        )  # fmt: skip
    return _spread(model), tokenizer


def toy_models(**options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PreTrainedModel, Any]:
    """What `train_joint` takes first: a cross-encoder and a T5, each with its tokenizer."""
    return (*toy_cross_encoder(**options), *toy_generator(**options))


def toy_rerankers(models: Sequence[Any]) -> tuple[CrossEncoder, QueryGenerator]:
    """What asks them: a cross-encoder and a query generator."""
    reader = CrossEncoder(models[0], models[1], max_length=48, device="cpu", dtype="fp32")
    return reader, QueryGenerator(models[2].eval(), models[3], PROMPT)


def toy_collator(models: Sequence[Any]) -> JointCollator:
    """What writes their inputs."""
    return JointCollator(DOCUMENTS, *toy_rerankers(models))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients of all weights that have one."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def weights(*models: nn.Module) -> dict[str, Tensor]:
    """Copies of all weights."""
    return {
        f"{number}.{name}": parameter.detach().clone()
        for number, model in enumerate(models)
        for name, parameter in model.named_parameters()
    }


def largest_gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def _t5_shape(dropout: float) -> dict[str, Any]:
    return {
        "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 8,
        "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "dropout_rate": dropout,
    }  # fmt: skip


def _spread(model: PreTrainedModel) -> PreTrainedModel:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()
