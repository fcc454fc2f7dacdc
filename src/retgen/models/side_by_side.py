"""Tokens that belong to queries, side by side by query: what attention over a query's own states needs."""

from __future__ import annotations

import torch
from torch import Tensor


class SideBySide:
    """Lays what tokens hold (N, …) side by side by query, (B, most tokens of a query, …), and takes it back.

    Args:
        query_of: (N,) int64, the query of each token.
        queries: B.

    Example:
        >>> beside = SideBySide(torch.tensor([1, 0, 1]), queries=2)
        >>> beside.lay(torch.tensor([[5], [6], [7]]))[..., 0].tolist()
        [[6, 0], [5, 7]]
        >>> beside.take(beside.lay(torch.tensor([[5], [6], [7]])))[:, 0].tolist()
        [5, 6, 7]
    """

    def __init__(self, query_of: Tensor, queries: int) -> None:
        counts = torch.bincount(query_of, minlength=queries)
        self._shape = (queries, max(1, int(counts.max())))
        # Where every query has as many tokens, and they come query by query, they lie right already.
        in_order = bool((query_of[1:] >= query_of[:-1]).all())
        self._whole = in_order and len(query_of) == self._shape[0] * self._shape[1]
        if not self._whole:
            order = torch.argsort(query_of, stable=True)
            place = torch.empty_like(query_of)
            place[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[query_of[order]]
            self._index = query_of * self._shape[1] + place

    def lay(self, part: Tensor) -> Tensor:
        """(N, d) to (B, most, d); zeros where a query has fewer tokens."""
        if self._whole:
            return part.view(*self._shape, -1)
        laid = part.new_zeros(self._shape[0] * self._shape[1], part.shape[1])
        laid[self._index] = part
        return laid.view(*self._shape, -1)

    def take(self, laid: Tensor) -> Tensor:
        """The way back."""
        flat = laid.flatten(0, 1)
        return flat if self._whole else flat[self._index]
