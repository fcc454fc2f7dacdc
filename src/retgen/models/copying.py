"""The copy head: a distribution over the input's tokens, mixed with the vocabulary's. An option, not in the paper.

A docid that stands in the context need not be memorised: it can be copied. The prior starts the head there: positions
that continue what was just written get a bonus, and a gate starts towards copying.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization

from retgen.models.config import UniGenConfig
from retgen.models.layout import SourceLayout

CONTINUATION_BONUS = 8.0
RANK_SLOPE = 0.4
OVERLAP_WEIGHT = 2.0
_PAIRED = 2048
"""Longest input whose positions are compared pair by pair; of many passages end to end, the square is too large."""


class CopyHead(nn.Module):
    """Copy probabilities for one decoder.

    The attention over source position j at step t is
    ``softmax_j(q_t · k_j + p_t · b_block(j) + bonus · continues_t(j) + rank_block(j) + w · overlap_block(j))``,
    where ``b`` is the mean of a block's states. A block's terms are the same at all its positions, so a candidate keeps
    its score while its docid is written. With ``g_t`` the gate, a token's probability is
    ``g_t · Σ_{j: token_j = v} attention_t(j) + (1 − g_t) · softmax_v(logits_t)``.
    """

    def __init__(self, config: UniGenConfig) -> None:
        super().__init__()
        size = config.d_model
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.block_query = nn.Linear(size, size)
        self.block_key = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, 1)
        self.continuation = nn.Parameter(torch.empty(()))
        self.rank_bias = nn.Parameter(torch.empty(config.max_blocks + 1))
        self.overlap_weight = nn.Parameter(torch.empty(()), requires_grad=config.lexical_prior)
        self._gate_init = config.copy_gate_init
        self._lexical = config.lexical_prior

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The prior: nearly uniform content, continuation, rank and overlap as set above."""
        for layer in (self.query, self.key, self.block_query, self.block_key):
            nn.init.normal_(layer.weight, std=0.3 / math.sqrt(layer.in_features))
        nn.init.zeros_(self.block_query.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, self._gate_init)
        nn.init.constant_(self.continuation, CONTINUATION_BONUS)
        # Unlike Tensor.copy_, this leaves alone what a checkpoint has just filled.
        ranks = torch.arange(len(self.rank_bias), device=self.rank_bias.device)
        initialization.copy_(self.rank_bias, -RANK_SLOPE * ranks.clamp(min=1).sub(1))
        nn.init.constant_(self.overlap_weight, OVERLAP_WEIGHT if self._lexical else 0.0)

    def keys(self, states: Tensor, layout: SourceLayout) -> tuple[Tensor, Tensor]:
        """Position keys (B, L, d) and block keys (B, max_blocks + 1, d) of encoder states; once per input."""
        blocks = len(self.rank_bias)
        one_hot = nn.functional.one_hot(layout.block, blocks).to(states.dtype) * layout.copyable.unsqueeze(-1)
        size = one_hot.sum(dim=1).clamp(min=1).unsqueeze(-1)
        means = torch.einsum("bln,bld->bnd", one_hot, states) / size
        return self.key(states), self.block_key(means)

    def log_attention(
        self, hidden: Tensor, keys: tuple[Tensor, Tensor], layout: SourceLayout, matches: Tensor
    ) -> Tensor:
        """(B, T, L) fp32 log-probabilities over source positions, for decoder states (B, T, d).

        Args:
            hidden: (B, T, d); the steps of one target, or the rows of one search, or both laid end to end.
            keys: what `keys` gave.
            layout: of the inputs.
            matches: (B, T, L) bool; positions that continue what was written before each step.
        """
        query, block_query = self.query(hidden), self.block_query(hidden)
        with in_fp32(hidden.device):
            position_keys, block_keys = (part.float() for part in keys)
            scale = hidden.shape[-1] ** -0.5
            scores = torch.einsum("btd,bld->btl", query.float(), position_keys) * scale
            per_block = torch.einsum("btd,bnd->btn", block_query.float(), block_keys) * scale
            per_block = per_block + self.rank_bias.float() + self.overlap_weight.float() * layout.overlap.unsqueeze(1)
            index = layout.block.unsqueeze(1).expand(-1, hidden.shape[1], -1)
            scores = scores + per_block.gather(2, index) + self.continuation.float() * matches
            scores = scores.masked_fill(~layout.copyable.unsqueeze(1), -1e9)
        attention: Tensor = scores.log_softmax(dim=-1)
        return attention

    def log_gate(self, hidden: Tensor, layout: SourceLayout) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) fp32 of copying and of writing; where nothing may be copied, all is written."""
        return log_gates(self.gate(hidden), layout.copyable)


def log_gates(gate: Tensor, copyable: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T) fp32 of copying and of writing from a gate's logits (B, T, 1).

    Args:
        gate: positive towards copying.
        copyable: (B, L) bool; where nothing may be copied, all is written.
    """
    logits = gate.squeeze(-1).float()
    something = copyable.any(dim=1, keepdim=True)
    copying = nn.functional.logsigmoid(logits).masked_fill(~something, -1e9)
    return copying, nn.functional.logsigmoid(-logits).masked_fill(~something, 0.0)


def in_fp32(device: torch.device) -> torch.autocast:
    """A context in which autocast leaves fp32 alone: scores rounded to bf16 cannot be told apart."""
    return torch.autocast(device.type, enabled=False)


def mix_targets(vocabulary: Tensor, log_attention: Tensor, gates: tuple[Tensor, Tensor], same: Tensor) -> Tensor:
    """Log-probability of given targets under the mixture.

    Args:
        vocabulary: (B, T) fp32 log-probability of each target under the vocabulary softmax.
        log_attention: (B, T, L) fp32.
        gates: log copy and log write, (B, T) each.
        same: (B, T, L) bool; positions that would write the target.
    """
    copied = log_attention.masked_fill(~same, -1e9).logsumexp(dim=-1)
    return torch.logaddexp(gates[0] + copied, gates[1] + vocabulary)


def mix_vocabulary(vocabulary: Tensor, log_attention: Tensor, gates: tuple[Tensor, Tensor], copy_ids: Tensor) -> Tensor:
    """Log-probabilities (B, T, V) of the mixture from the vocabulary's (B, T, V) and the copies' (B, T, L).

    Only the tokens of the input are touched: the vocabulary is much larger.

    Args:
        vocabulary: (B, T, V) fp32 log-probabilities of the vocabulary softmax.
        log_attention: (B, T, L) fp32.
        gates: log copy and log write, (B, T) each.
        copy_ids: (B, L) the token that copying a position writes.
    """
    written = vocabulary + gates[1].unsqueeze(-1)
    index = copy_ids.unsqueeze(1).expand_as(log_attention)
    # A token's probability of being copied, at each of the positions that write it.
    if copy_ids.shape[1] <= _PAIRED:
        same = (copy_ids.unsqueeze(2) == copy_ids.unsqueeze(1)).to(log_attention.dtype)
        with in_fp32(log_attention.device):
            copied = torch.bmm(log_attention.exp(), same)
    else:
        copied = torch.zeros_like(written).scatter_add_(2, index, log_attention.exp()).gather(2, index)
    copied = copied.clamp(min=1e-30).log()
    mixed = torch.logaddexp(gates[0].unsqueeze(-1) + copied, written.gather(2, index))
    return written.scatter_(2, index, mixed)
