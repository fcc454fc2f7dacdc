"""A T5 decoder over many rows of many queries: their encoder states are attended to once per query, not once per row.

The rows of a query (beams, or candidates being scored) read the same encoder states. `T5Stack` wants these once per
row; here the tokens of a query's rows are laid side by side for the cross-attention, whose keys and values are made
once. For ten beams that is a tenth of the memory. Queries may have unlike numbers of rows, and beside the rows that
take one token more, others may read the rest of their text in the same pass. The layers' own modules do the work;
inference only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.t5.modeling_t5 import T5Attention, T5Stack

from retgen.models.side_by_side import SideBySide


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that read equally many tokens in this pass: (r, T, d), after ``before`` tokens of which keys are kept."""

    embeddings: Tensor
    queries: Tensor
    parents: Tensor | None
    before: int


class RowDecoder:
    """A decoder with the encoder states of B queries. Before the first step there is one empty row for each query.

    Args:
        stack: the decoder, in evaluation mode.
        states: (B, L, d) encoder states.
        attention_mask: (B, L), 1 for real tokens.

    Attributes:
        queries: (n,) int64, the query of each row, as they stand after the last step.
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
        self._bias = torch.zeros(self._heads, 0, device=states.device)
        # Keys and values of a layer, (tokens, rows, heads · width): the next token's can be put behind them.
        self._past: list[tuple[Tensor, Tensor]] = []
        self.queries = torch.arange(len(states), device=states.device)

    def step_rows(
        self, parents: Tensor, embeddings: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """One more token of rows that go on, and all that is left of rows that end.

        Args:
            parents: (n,) for each row that goes on, the number of the row it continues; at first, of its query.
            embeddings: (n, d) of the token it reads.
            tails: parents (r,) and embeddings (r, T, d) of rows that end: nothing of theirs is kept.

        Returns:
            States (n, d), and (r, T, d) of the tails.
        """
        before = self._past[0][0].shape[0] if self._past else 0
        groups = [_Group(embeddings.unsqueeze(1), self.queries[parents], parents, before)] if len(parents) else []
        if tails is not None:
            groups.append(_Group(tails[1], self.queries[tails[0]], tails[0], before))
        hidden = self._run(groups, keep=len(parents) > 0)
        self.queries = self.queries[parents]
        return hidden[0].squeeze(1) if len(parents) else embeddings, hidden[-1] if tails is not None else None

    def read(self, queries: Tensor, embeddings: Tensor) -> Tensor:
        """Whole rows at once, (r, T, d) of the queries (r,), to states (r, T, d). Rows being decoded stay as they are.

        The embeddings begin with the start token's.
        """
        return self._run([_Group(embeddings, queries, None, 0)], keep=False)[0]

    def _run(self, groups: list[_Group], *, keep: bool) -> list[Tensor]:
        shapes = [group.embeddings.shape[:2] for group in groups]
        sizes = [rows * length for rows, length in shapes]
        hidden = torch.cat([group.embeddings.flatten(0, 1) for group in groups])
        biases = [
            self._position_bias(group.before, length).to(hidden.dtype)
            for group, (_, length) in zip(groups, shapes, strict=True)
        ]
        query_of = torch.cat([group.queries.repeat_interleave(group.embeddings.shape[1]) for group in groups])
        beside = SideBySide(query_of, len(self._cross_mask))
        kept = []
        for number, layer in enumerate(self._layers):
            attention = layer[0].SelfAttention
            normed = layer[0].layer_norm(hidden)
            parts = [torch.split(part(normed), sizes) for part in (attention.q, attention.k, attention.v)]
            mixed = []
            for group, shape, bias, query, key, value in zip(groups, shapes, biases, *parts, strict=True):
                keys, values = (self._behind(number, place, group, part) for place, part in ((0, key), (1, value)))
                if keep and group is groups[0]:
                    kept.append((keys, values))
                attended = scaled_dot_product_attention(
                    self._split(query.view(*shape, -1)),
                    self._by_row(keys),
                    self._by_row(values),
                    attn_mask=bias,
                    scale=1.0,
                )
                mixed.append(self._join(attended).flatten(0, 1))
            hidden = hidden + attention.o(torch.cat(mixed))

            attention = layer[1].EncDecAttention
            query = self._split(beside.lay(attention.q(layer[1].layer_norm(hidden))))
            attended = scaled_dot_product_attention(query, *self._cross[number], attn_mask=self._cross_mask, scale=1.0)
            hidden = hidden + attention.o(beside.take(self._join(attended)))

            hidden = layer[2](hidden)
        if keep:
            self._past = kept
        hidden = self._stack.final_layer_norm(hidden)
        return [part.view(*shape, -1) for part, shape in zip(torch.split(hidden, sizes), shapes, strict=True)]

    def _behind(self, number: int, place: int, group: _Group, part: Tensor) -> Tensor:
        """Keys or values of this pass behind those kept: (before + T, r, heads · width)."""
        rows, length = group.embeddings.shape[:2]
        new = part.view(rows, length, -1).transpose(0, 1)
        if not group.before or group.parents is None:
            return new
        joined = new.new_empty(group.before + length, rows, new.shape[2])
        torch.index_select(self._past[number][place], 1, group.parents, out=joined[: group.before])
        joined[group.before :] = new
        return joined

    def _position_bias(self, before: int, length: int) -> Tensor:
        """(1, heads, length, before + length) bias by relative position; what comes later is masked."""
        total = before + length
        if total > self._bias.shape[1]:
            self._bias = self._bias_by_distance(2 * total)
        device = self._bias.device
        distance = torch.arange(before, total, device=device).unsqueeze(1) - torch.arange(total, device=device)
        bias = self._bias[:, distance.clamp(min=0)]
        return bias.masked_fill(distance < 0, self._masked).unsqueeze(0)

    def _bias_by_distance(self, count: int) -> Tensor:
        """(heads, count): the bias of looking 0, 1, … tokens back. It is the first layer's, for all layers."""
        attention = self._layers[0][0].SelfAttention
        bucket: Tensor = T5Attention._relative_position_bucket(  # type: ignore[no-untyped-call]
            -torch.arange(count, device=self._bias.device),
            bidirectional=False,
            num_buckets=self._stack.config.relative_attention_num_buckets,
            max_distance=self._stack.config.relative_attention_max_distance,
        )
        bias: Tensor = attention.relative_attention_bias(bucket)
        return bias.transpose(0, 1).contiguous()

    def _split(self, part: Tensor) -> Tensor:
        """(N, length, heads · width) to (N, heads, length, width)."""
        return part.view(*part.shape[:2], self._heads, self._width).transpose(1, 2)

    def _by_row(self, part: Tensor) -> Tensor:
        """(length, N, heads · width) to (N, heads, length, width)."""
        return part.view(*part.shape[:2], self._heads, self._width).permute(1, 2, 0, 3)

    def _join(self, part: Tensor) -> Tensor:
        return part.transpose(1, 2).reshape(part.shape[0], part.shape[2], self._heads * self._width)


class JoinedDecoders:
    """Decoders that read the same rows; their states stand side by side, (…, d of all). Used as one `RowDecoder` is.

    Args:
        decoders: fresh, over the same queries.
    """

    def __init__(self, decoders: Sequence[RowDecoder]) -> None:
        self._decoders = decoders

    @property
    def queries(self) -> Tensor:
        """(n,) int64, the query of each row."""
        return self._decoders[0].queries

    def step_rows(
        self, parents: Tensor, embeddings: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `RowDecoder.step_rows`."""
        read = [decoder.step_rows(parents, embeddings, tails) for decoder in self._decoders]
        ended = [tail for _, tail in read if tail is not None]
        return torch.cat([hidden for hidden, _ in read], dim=-1), torch.cat(ended, dim=-1) if ended else None

    def read(self, queries: Tensor, embeddings: Tensor) -> Tensor:
        """See `RowDecoder.read`."""
        return torch.cat([decoder.read(queries, embeddings) for decoder in self._decoders], dim=-1)
