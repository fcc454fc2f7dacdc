"""Checkpoint folders as transformers writes them: tiny T5s and BERT-like encoders with tokenizers of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

TEXTS = (
    "Joseph Priestley discovered oxygen in the year 1774.",
    "The planet Mars has two moons, Phobos and Deimos.",
    "Iron melts at 1538 °C; tin melts at 232 °C.",
    "The naïve reader asks: who discovered the two moons of Mars?",
)
SPECIALS = ["<pad>", "</s>", "<unk>"]


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """A unigram tokenizer with ``▁`` for spaces, like T5's; it splits the marks."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False, max_piece_length=6
    )
    core.train_from_iterator([*TEXTS, "a | b"], trainer)
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def wordpiece_tokenizer(*, marks: bool = True) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer, like BERT's."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials, show_progress=False)
    core.train_from_iterator([*TEXTS, "a | b » c"] if marks else TEXTS, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def byte_level_tokenizer(kind: type[PreTrainedTokenizerFast] = RobertaTokenizer) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that writes a text's first word without its space, like RoBERTa's."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    core.train_from_iterator(TEXTS, trainer)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return kind(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


T5_KINDS: dict[str, dict[str, Any]] = {
    "v1.0": {"feed_forward_proj": "relu"},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "v1.1, unlike depths": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 1},
    "mt5": {"feed_forward_proj": "gated-gelu"},
}


def save_seq2seq(folder: Path, kind: str = "v1.0", *, tokenizer: bool = True, vocab_size: int = 96) -> PreTrainedModel:
    """A T5-family checkpoint in a folder; v1.1 and mT5 have an output head of their own."""
    torch.manual_seed(0)
    made = sentencepiece_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": vocab_size, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3,
        "relative_attention_num_buckets": 8, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
        "dropout_rate": 0.1, **T5_KINDS[kind],
    }  # fmt: skip
    model: PreTrainedModel
    if kind == "mt5":
        model = MT5ForConditionalGeneration(MT5Config(**shape))
    else:
        model = T5ForConditionalGeneration(T5Config(**shape))
    if kind != "v1.0":
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, 24) * 0.3)
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    model.eval().save_pretrained(folder)
    if tokenizer:
        made.save_pretrained(folder)
    return model


def save_encoder(
    folder: Path, config: PreTrainedConfig, *, marks: bool = True, tokenizer: PreTrainedTokenizerFast | None = None
) -> PreTrainedModel:
    """A BERT-like checkpoint in a folder, whatever family the configuration is of."""
    torch.manual_seed(0)
    tokenizer = wordpiece_tokenizer(marks=marks) if tokenizer is None else tokenizer
    config.vocab_size = len(tokenizer)
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
