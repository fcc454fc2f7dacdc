"""Losses of a batch from log-probabilities: of targets, of spans, and of two readings that should agree."""

from __future__ import annotations

import torch
from torch import Tensor

NOWHERE = -1e9
"""Score of positions that may not be chosen; finite, so that a row without any other stays free of NaN."""


def target_loss(log_probabilities: Tensor, known: Tensor, reduction: str) -> Tensor:
    """Minus the log-probability of targets.

    Args:
        log_probabilities: (B, T), 0 where there is no target.
        known: (B, T) bool, where there is one; examples without any are left out of the average over the batch.
        reduction: ``sum``: over an example's tokens, then averaged over the batch (Eqs. 2, 4); ``token_mean``: over all
            tokens of the batch.
    """
    if reduction == "token_mean":
        return -log_probabilities.sum() / known.sum()
    return -log_probabilities.sum() / known.any(dim=1).sum()


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """Half of KL(p‖q) + KL(q‖p), for log-probabilities (n, V) of both: (n,) fp32, at least 0.

    Reference:
        Liang et al., "R-Drop: Regularized Dropout for Neural Networks", 2021, Eq. 2.
    """
    return 0.5 * ((one.exp() - other.exp()) * (one - other)).sum(dim=-1)


def span_loss(log_probabilities: Tensor, spans: Tensor) -> Tensor | None:
    """Minus the log of the summed probability of all given spans: any of the answer's occurrences will do.

    Args:
        log_probabilities: (B, L, 2) that an answer starts and ends at a position.
        spans: (B, S, 2) int64 start and inclusive end; -1 pads.

    Returns:
        None where no example has a span that could be pointed at.
    """
    where = spans.clamp(min=0)
    starts = log_probabilities[..., 0].gather(1, where[..., 0])
    ends = log_probabilities[..., 1].gather(1, where[..., 1])
    # A span outside of the context (in the question, at a mark) is none that the head could point at.
    known = (spans >= 0).all(dim=-1) & (torch.minimum(starts, ends) > NOWHERE / 2)
    joint = (starts + ends).masked_fill(~known, NOWHERE).logsumexp(dim=1)
    with_span = known.any(dim=1)
    if not bool(with_span.any()):
        return None
    return -joint[with_span].mean()
