"""A T5 decoder over many rows of one query: their encoder states are attended to once per query, not once per row.

The rows of a query (beams, or candidates being scored) read the same encoder states. `T5Stack` wants these once per
row; here the rows are laid side by side as one long row of queries for the cross-attention, whose keys and values are
made once. For ten beams that is a tenth of the memory. The layers' own modules do the work; inference only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.t5.modeling_t5 import T5Attention, T5Stack


class RowDecoder:
    """A decoder with the encoder states of B queries.

    Args:
        stack: the decoder, in evaluation mode.
        states: (B, L, d) encoder states.
        attention_mask: (B, L), 1 for real tokens.
    """

    def __init__(self, stack: T5Stack, states: Tensor, attention_mask: Tensor) -> None:
        self._stack = stack
        self._heads, self._width = stack.config.num_heads, stack.config.d_kv
        self._masked = torch.finfo(states.dtype).min
        self._cross_mask = torch.zeros_like(attention_mask, dtype=states.dtype)
        self._cross_mask = self._cross_mask.masked_fill(attention_mask == 0, self._masked)[:, None, None, :]
        layers: Any = stack.block
        self._layers = [block.layer for block in layers]
        self._cross = [
            (self._split(layer[1].EncDecAttention.k(states)), self._split(layer[1].EncDecAttention.v(states)))
            for layer in self._layers
        ]
        self._past: list[tuple[Tensor, Tensor]] = []

    def step(self, embeddings: Tensor) -> Tensor:
        """One more token of each row: embeddings (B, m, d) to states (B, m, d). Keeps keys and values."""
        states = self._run(embeddings.unsqueeze(2), keep=True)
        return states.squeeze(2)

    def reorder(self, rows: Tensor) -> None:
        """Continue row ``rows[i]`` of the B·m rows there are in row i of those there will be."""
        self._past = [(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in self._past]

    def score(self, embeddings: Tensor) -> Tensor:
        """Whole rows at once: embeddings (B, m, T, d) to states (B, m, T, d). Rows being decoded stay as they are."""
        return self._run(embeddings, keep=False)

    def _run(self, hidden: Tensor, *, keep: bool) -> Tensor:
        batch, rows, length, size = hidden.shape
        past = self._past if keep else []
        before = past[0][0].shape[2] if past else 0
        bias = self._position_bias(self._layers[0][0].SelfAttention, before, length).to(hidden.dtype)
        kept = []
        for number, layer in enumerate(self._layers):
            attention = layer[0].SelfAttention
            normed = layer[0].layer_norm(hidden).reshape(batch * rows, length, size)
            query, keys, values = (self._split(part(normed)) for part in (attention.q, attention.k, attention.v))
            if past:
                keys = torch.cat((past[number][0], keys), dim=2)
                values = torch.cat((past[number][1], values), dim=2)
            kept.append((keys, values))
            mixed = scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)
            hidden = hidden + attention.o(self._join(mixed)).reshape(hidden.shape)

            attention = layer[1].EncDecAttention
            normed = layer[1].layer_norm(hidden).reshape(batch, rows * length, size)
            query = self._split(attention.q(normed))
            mixed = scaled_dot_product_attention(query, *self._cross[number], attn_mask=self._cross_mask, scale=1.0)
            hidden = hidden + attention.o(self._join(mixed)).reshape(hidden.shape)

            hidden = layer[2](hidden)
        if keep:
            self._past = kept
        states: Tensor = self._stack.final_layer_norm(hidden)
        return states

    def _position_bias(self, attention: T5Attention, before: int, length: int) -> Tensor:
        """(1, heads, length, before + length) bias by relative position; what comes later is masked."""
        device = self._cross_mask.device
        distance = torch.arange(before + length, device=device)[None] - torch.arange(
            before, before + length, device=device
        ).unsqueeze(1)
        bucket: Tensor = T5Attention._relative_position_bucket(  # type: ignore[no-untyped-call]
            distance,
            bidirectional=False,
            num_buckets=self._stack.config.relative_attention_num_buckets,
            max_distance=self._stack.config.relative_attention_max_distance,
        )
        bias: Tensor = attention.relative_attention_bias(bucket).permute(2, 0, 1)
        return bias.masked_fill(distance > 0, self._masked).unsqueeze(0)

    def _split(self, part: Tensor) -> Tensor:
        """(N, length, heads · width) to (N, heads, length, width)."""
        return part.view(*part.shape[:2], self._heads, self._width).transpose(1, 2)

    def _join(self, part: Tensor) -> Tensor:
        return part.transpose(1, 2).reshape(part.shape[0], part.shape[2], self._heads * self._width)
