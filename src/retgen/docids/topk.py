"""The best of rows of candidates, equal ones in the order they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` greatest of each row, falling; equal values in the order they stand (``torch.topk`` promises none).

    Args:
        values: ``(n, c)`` fp32, without NaN.
        k: as many at most; fewer where a row is shorter.

    Returns:
        The values and their places, each ``(n, min(k, c))``.

    Example:
        >>> stable_topk(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3)[1].tolist()
        [[1, 3, 0]]
    """
    width = values.shape[1]
    # Value and place in one integer: the float's bits in an order that integers understand, then the place, reversed.
    # Adding 0 turns −0.0, whose bits differ, into 0.0.
    bits = (values + 0.0).view(torch.int32)
    rank = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    keys = (rank << 32) + torch.arange(width - 1, -1, -1)
    places = width - 1 - (torch.topk(keys, min(k, width), dim=1).values & 0xFFFFFFFF)
    return values.gather(1, places), places
