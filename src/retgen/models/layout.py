"""How an input is laid out: the question, then the blocks of its context, each with a docid and sentences.

Everything here is computed from token ids alone, so it holds for any writer that separates blocks with the boundary
token; a text without boundaries is one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SourceLayout:
    """Where things stand in a batch of inputs.

    Args:
        block: (B, L) int64; 0 for the question, i ≥ 1 for the i-th block of the context; 0 where padded.
        copyable: (B, L) bool; positions that may be copied (the context; the whole input where there is none).
        docid_start: (B, L) bool; first token of each block.
        copy_ids: (B, L) int64; the token that copying a position writes: EOS at the end of a docid.
        overlap: (B, max_blocks + 1) fp32 in [0, 1]; share of the question's token weight that a block repeats.
    """

    block: Tensor
    copyable: Tensor
    docid_start: Tensor
    copy_ids: Tensor
    overlap: Tensor

    def repeat(self, rows: int) -> SourceLayout:
        """Each query's layout ``rows`` times, query by query."""
        return SourceLayout(
            *(
                part.repeat_interleave(rows, dim=0)
                for part in (self.block, self.copyable, self.docid_start, self.copy_ids, self.overlap)
            )
        )


def source_layout(
    input_ids: Tensor,
    attention_mask: Tensor,
    token_weights: Tensor,
    *,
    boundary_token_id: int | None,
    docid_end_token_id: int | None,
    eos_token_id: int,
    max_blocks: int,
) -> SourceLayout:
    """Lay out a batch.

    Args:
        input_ids: (B, L) int64, padded at the right.
        attention_mask: (B, L), 1 for real tokens.
        token_weights: (V,) ≥ 0; how telling a token is (its inverse document frequency); 0 for special tokens.
    """
    real = attention_mask.bool()
    if boundary_token_id is None:
        boundary = torch.zeros_like(real)
    else:
        boundary = (input_ids == boundary_token_id) & real
    block = boundary.long().cumsum(dim=1).clamp(max=max_blocks) * real
    structured = boundary.any(dim=1, keepdim=True)
    special = (token_weights[input_ids] == 0) & ~boundary
    inside = (block > 0) & ~boundary
    copyable = torch.where(structured, inside, real) & real
    copy_ids = input_ids.clone()
    ends = boundary.clone()
    if docid_end_token_id is not None:
        ends |= (input_ids == docid_end_token_id) & inside
    copy_ids[ends] = eos_token_id
    copyable = (copyable | (ends & (block > 0))) & ~(special & ~ends)
    docid_start = torch.zeros_like(real)
    docid_start[:, 1:] = boundary[:, :-1] & copyable[:, 1:] & ~ends[:, 1:]
    return SourceLayout(
        block,
        copyable,
        docid_start,
        copy_ids,
        _overlap(input_ids, block, inside, real, token_weights, max_blocks),
    )


def _overlap(
    input_ids: Tensor, block: Tensor, inside: Tensor, real: Tensor, token_weights: Tensor, max_blocks: int
) -> Tensor:
    question = (block == 0) & real
    width = int(question.long().sum(dim=1).max()) if question.numel() else 0
    # The question stands first, so its tokens lie within the first `width` columns.
    asked = input_ids[:, :width]
    weight = token_weights[asked].float() * question[:, :width]
    same = (asked.unsqueeze(2) == input_ids.unsqueeze(1)) & inside.unsqueeze(1)
    found = torch.zeros(*asked.shape, max_blocks + 1, device=input_ids.device)
    found.scatter_reduce_(2, block.unsqueeze(1).expand_as(same), same.float(), reduce="amax")
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.einsum("bq,bqn->bn", weight, found) / total


def question_matches(layout: SourceLayout, input_ids: Tensor, attention_mask: Tensor, token_weights: Tensor) -> Tensor:
    """Whether a token of the context occurs in the question, plain and by its weight.

    Returns:
        (B, L, 2) fp32 in [0, 1].

    Reference: the exact-match feature of Chen et al., "Reading Wikipedia to Answer Open-Domain Questions", 2017.
    """
    question = (layout.block == 0) & attention_mask.bool()
    asked = input_ids.masked_fill(~question, -1)
    width = int(question.long().sum(dim=1).max())
    matched = (input_ids.unsqueeze(2) == asked[:, None, :width]).any(dim=2) & ~question
    weight = token_weights.float()[input_ids]
    known = (matched & (weight > 0)).float()
    return torch.stack((known, known * weight / token_weights.max().clamp(min=1e-6)), dim=-1)


def prefix_matches(layout: SourceLayout, tokens: Tensor, *, docids: bool) -> Tensor:
    """Positions that continue what was written, for every step of a target.

    Args:
        tokens: (B, T) int64; the tokens written so far, without the start token.
        docids: True matches whole docids from their block's start; False matches from anywhere.

    Returns:
        (B, T + 1, L) bool; row t marks positions whose preceding tokens are ``tokens[:, :t]``.
    """
    match = layout.docid_start if docids else layout.copyable
    rows = [match]
    for step in range(tokens.shape[1]):
        match = next_match(layout, match, tokens[:, step])
        rows.append(match)
    return torch.stack(rows, dim=1)


def next_match(layout: SourceLayout, match: Tensor, token: Tensor) -> Tensor:
    """`prefix_matches` one step on.

    Args:
        match: (B, L) bool, or (B, m, L) for m rows of each input.
        token: (B,) int64, or (B, m); what each row has just written.

    Returns:
        Like ``match``.
    """
    copy_ids, copyable = layout.copy_ids, layout.copyable
    if match.dim() == 3:
        copy_ids, copyable = copy_ids.unsqueeze(1), copyable.unsqueeze(1)
    following = torch.zeros_like(match)
    following[..., 1:] = match[..., :-1] & (copy_ids[..., :-1] == token.unsqueeze(-1))
    return following & copyable
