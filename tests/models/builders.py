"""Networks of a few thousand weights, and inputs laid out as a written context, for the tests of models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retgen.models.config import UniGenConfig
from retgen.models.unigen import UniGenForRetrievalAndAnswering

VOCAB = 40
PAD, EOS, START, BAR, END = 0, 1, 2, 3, 4
FIRST = 5
"""Tokens from here on are words."""
WIDTH = 32

T5_SHAPE: dict[str, Any] = {
    "model_type": "t5", "vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 8, "num_heads": 2, "d_ff": 48, "num_layers": 2,
    "num_decoder_layers": 2, "dropout_rate": 0.0, "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
}  # fmt: skip
BERT_SHAPE: dict[str, Any] = {
    "model_type": "bert", "vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "t5": {"scale_decoder_outputs": True},
    "t5, copying": {"copy_head": True, "span_head": True, "tie_word_embeddings": False, "output_bias": True},
    "bert, copying": {"encoder": BERT_SHAPE, "copy_head": True, "output_bias": True},
    "two encoders": {"share_encoder": False, "copy_head": True, "span_head": True},
    "prefix head": {"docid_tokens": [20, 40], "prefix_head_layers": 1, "output_bias": True},
}


def tiny_model(
    variant: str = "t5", *, seed: int = 0, noise: float = 0.5, **options: Any
) -> UniGenForRetrievalAndAnswering:
    """A random model in which nothing is left at zero and no distribution is flat."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "encoder": T5_SHAPE, "decoder": T5_SHAPE, "vocab_size": VOCAB, "d_model": WIDTH, "pad_token_id": PAD,
        "eos_token_id": EOS, "decoder_start_token_id": START, "boundary_token_id": BAR, "docid_end_token_id": END,
        "scale_decoder_outputs": False, "max_blocks": 3, **VARIANTS[variant], **options,
    }  # fmt: skip
    model = UniGenForRetrievalAndAnswering(UniGenConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise / (parameter.shape[-1] ** 0.5 if parameter.dim() else 1))
        model.shared.weight.mul_(3.0)
        model.token_weights[:FIRST] = 0.0
        model.token_weights[FIRST:] = torch.rand(VOCAB - FIRST) * 0.9 + 0.1
    return model.eval()


def context(rng: np.random.Generator, *, blocks: int = 2, question: int = 3, words: int = 4) -> list[int]:
    """``question | docid » sentences | … |`` and EOS."""

    def some(most: int) -> list[int]:
        return [int(token) for token in rng.integers(FIRST, VOCAB, size=rng.integers(1, most + 1))]

    ids = some(question)
    for _ in range(blocks):
        ids += [BAR, *some(3), END, *some(words)]
    return [*ids, BAR, EOS]


def padded(rows: list[list[int]], *, value: int = PAD, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of unequal length, padded at the right, and their mask."""
    width = max(map(len, rows)) + extra
    ids = torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def inputs(seed: int = 0, batch: int = 3, *, extra: int = 0) -> tuple[Tensor, Tensor]:
    """A batch of contexts."""
    rng = np.random.default_rng(seed)
    return padded([context(rng, blocks=int(rng.integers(1, 5))) for _ in range(batch)], extra=extra)


def docid_in(ids: list[int], block: int) -> list[int]:
    """The docid of the i-th block (from 0) of an input, with EOS."""
    begins = [place + 1 for place, token in enumerate(ids) if token == BAR][block]
    return [*ids[begins : ids.index(END, begins)], EOS]
