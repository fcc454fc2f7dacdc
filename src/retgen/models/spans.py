"""Answers as spans of the input: the best spans of the span head, and the tokens that keep a decoder within a span.

A span never crosses a mark: it lies within one docid or within one block's sentences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retgen.errors import UsageError
from retgen.models.layout import SourceLayout, next_match

_NOWHERE = -1e9


def span_positions(layout: SourceLayout, eos_token_id: int) -> Tensor:
    """Positions (B, L) bool that an answer may be made of: those that may be copied, without marks."""
    return layout.copyable & (layout.copy_ids != eos_token_id)


def best_spans(
    log_probabilities: Tensor, allowed: Tensor, *, max_length: int = 16, n: int = 1
) -> list[list[tuple[int, int, float]]]:
    """The best spans of each input.

    Args:
        log_probabilities: (B, L, 2) fp32 that a span starts, and ends (inclusive), at a position:
            `UniGenForRetrievalAndAnswering.span_log_probabilities`.
        allowed: (B, L) bool; every position of a span must be allowed. See `span_positions`.
        max_length: the most tokens of a span.
        n: the most spans of an input.

    Returns:
        For each input, its spans as (start, end inclusive, score), best first; equal scores in the order of their
        starts. The score is log p(start) + log p(end) ≤ 0. Empty where no position is allowed.

    Raises:
        UsageError: ``max_length`` or ``n`` below 1.

    Example:
        >>> certain = torch.tensor([[[0.1, 0.1], [0.8, 0.1], [0.1, 0.8]]]).log()
        >>> [[(start, end) for start, end, _ in row] for row in best_spans(certain, torch.ones(1, 3, dtype=torch.bool))]
        [[(1, 2)]]
    """
    if max_length < 1 or n < 1:
        raise UsageError("max_length and n must be at least 1")
    length = allowed.shape[1]
    width = min(max_length, length)
    starts, ends = log_probabilities.float().unbind(dim=-1)
    # Ends as windows: column w of row s is position s + w. Forbidden positions before it, up to it, are counted.
    reach = torch.arange(length, device=allowed.device)[:, None] + torch.arange(width, device=allowed.device)
    inside = (reach < length).unsqueeze(0)
    reach = reach.clamp(max=length - 1)
    forbidden = (~allowed).long().cumsum(dim=1)
    unbroken = inside & (forbidden[:, reach] == forbidden.unsqueeze(2)) & allowed.unsqueeze(2)
    scores = (starts.unsqueeze(2) + ends[:, reach]).masked_fill(~unbroken, float("-inf")).flatten(1)
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :n]
    chosen = scores.gather(1, order)
    spans = []
    for places, values in zip(order.tolist(), chosen.tolist(), strict=True):
        pairs = [(place // width, place // width + place % width) for place in places]
        spans.append([(*pair, value) for pair, value in zip(pairs, values, strict=True) if value > _NOWHERE / 2])
    return spans


class SpanConstraint:
    """The tokens that an answer decoder may write next if its answer is to be a span of the input.

    The state of a row is the set of places where the input goes on as the row does. Like a session it begins with one
    row for each input, and `reorder` makes the rows of the next step.

    Args:
        layout: of the inputs.
        eos_token_id: may be written once there is a token.
        allowed: (B, L) bool; positions that an answer may be made of. `span_positions` by default.

    Example:
        >>> ids = torch.tensor([[5, 6, 7, 5, 8]])
        >>> everywhere, no = torch.ones_like(ids).bool(), torch.zeros_like(ids)
        >>> layout = SourceLayout(no, everywhere, no.bool(), ids, torch.zeros(1, 1))
        >>> constraint = SpanConstraint(layout, eos_token_id=1)
        >>> constraint.allowed(10)[0, 0].nonzero().squeeze(1).tolist()
        [5, 6, 7, 8]
        >>> constraint.advance(torch.tensor([[5]]))
        >>> constraint.allowed(10)[0, 0].nonzero().squeeze(1).tolist()
        [1, 6, 8]
    """

    def __init__(self, layout: SourceLayout, eos_token_id: int, *, allowed: Tensor | None = None) -> None:
        self._layout = layout
        self._eos = eos_token_id
        self._positions = (span_positions(layout, eos_token_id) if allowed is None else allowed).unsqueeze(1)
        self._matches = self._positions
        # Without a place to begin there is nothing to write but the empty answer.
        self._may_end = ~self._matches.any(dim=2)

    def allowed(self, vocab_size: int) -> Tensor:
        """Tokens that may be written next: (B, m, vocab_size) bool; at least one in each row."""
        batch, rows, length = self._matches.shape
        tokens = torch.zeros((batch, rows, vocab_size), dtype=torch.bool, device=self._matches.device)
        ids = self._layout.copy_ids.unsqueeze(1).expand(batch, rows, length)
        # Places that do not match write EOS, which is set aright below.
        tokens.scatter_(2, torch.where(self._matches, ids, self._eos), True)
        tokens[..., self._eos] = self._may_end
        return tokens

    def advance(self, tokens: Tensor) -> None:
        """Take in what each row has written: (B, m) int64."""
        tokens = tokens.to(self._matches.device)
        self._matches = next_match(self._layout, self._matches, tokens) & self._positions
        self._may_end = torch.ones_like(tokens, dtype=torch.bool)

    def reorder(self, parents: Tensor) -> None:
        """Continue, in each new row, the row of the same input that ``parents`` (B, m') names."""
        parents = parents.to(self._matches.device)
        index = parents.unsqueeze(2).expand(-1, -1, self._matches.shape[2])
        self._matches = self._matches.gather(1, index)
        self._may_end = self._may_end.gather(1, parents)
