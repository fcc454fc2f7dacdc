"""Tiny sequence-classification checkpoints of several families, with tokenizers that set query and passage apart."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from tests.conformance import DOCUMENTS, QUERIES

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [*(document.contents for document in DOCUMENTS), *(query.text for query in QUERIES)]
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 66, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE, type_vocab_size=1),
    "distilbert": DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=66),
    "modernbert": ModernBertConfig(
        **SHAPE, global_attn_every_n_layers=1, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
    ),
}


def pair_tokenizer(longest: int = 64) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer; ``[CLS] query [SEP] passage [SEP]``, as BERT's."""
    core = Tokenizer(models.WordPiece(_vocabulary(), unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=longest,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def _vocabulary() -> dict[str, int]:
    # Not learnt: the tokenizers library learns another one in every process.
    found = Counter(re.findall(r"[a-z]+", " ".join(TEXTS).lower()))
    words = sorted(word for word, times in found.items() if times > 1)
    characters = sorted({character for text in TEXTS for character in text.lower()} | set(ascii_lowercase + digits))
    pieces = [*SPECIALS, *words, *characters, *(f"##{character}" for character in characters)]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def save_classifier(folder: Path, family: str = "bert", *, outputs: int = 1, spread: float = 1.0) -> Path:
    """A random checkpoint whose scores are spread over some units, so that an order is an order."""
    torch.manual_seed(7)
    tokenizer = pair_tokenizer()
    config = type(FAMILIES[family])(**FAMILIES[family].to_dict())
    config.vocab_size = len(tokenizer)
    config.num_labels = outputs
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.add_(torch.randn_like(parameter) * spread / parameter.shape[-1] ** 0.5)
            elif name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    if family in ("roberta", "distilbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
