"""Log-probabilities over a vocabulary, a slice of it at a time: the logits of all of it never stand in memory at once.

Beside the product itself, going over whole rows of logits again and again is what costs; a slice of them stays in the
processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from retgen.errors import RetgenError

if TYPE_CHECKING:
    from torch import Tensor

_SLICE = 4096


def target_log_probs(project: Callable[[slice], Tensor], vocab_size: int, targets: Tensor) -> Tensor:
    """Log-probabilities of one token a row, or of several.

    Args:
        project: logits ``(p, s)`` fp32 of a slice of the vocabulary, in memory of their own: they are written over.
        vocab_size: tokens of the vocabulary.
        targets: ``(p,)`` or ``(p, m)`` int64, on the logits' device.

    Returns:
        fp32 of the targets' shape.

    Raises:
        RetgenError: the logits are not finite.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> found = target_log_probs(lambda part: logits[:, part].clone(), 3, torch.tensor([2]))
        >>> bool(torch.isclose(found[0], logits.log_softmax(dim=1)[0, 2]))
        True
    """
    listed = targets.reshape(len(targets), -1)
    chosen = torch.zeros(listed.shape, device=targets.device)
    sums = []
    for start in range(0, vocab_size, _SLICE):
        stop = min(start + _SLICE, vocab_size)
        logits = project(slice(start, stop))
        inside = (listed >= start) & (listed < stop)
        here = logits.gather(1, (listed - start).clamp(0, stop - start - 1))
        chosen = torch.where(inside, here, chosen)
        # logsumexp where the logits stand: copies of them cost more than the arithmetic.
        highest = logits.amax(dim=1)
        highest = highest.masked_fill(highest.isinf(), 0.0)
        sums.append(logits.sub_(highest.unsqueeze(1)).exp_().sum(dim=1).log_().add_(highest))
    normaliser = torch.logsumexp(torch.stack(sums), dim=0)
    check_finite(normaliser)
    return (chosen - normaliser.unsqueeze(1)).reshape(targets.shape)


def check_finite(normaliser: Tensor, *, nothing: bool = False) -> None:
    """Whether logits are numbers, by what their exponentials sum up to.

    Args:
        normaliser: logarithms of sums.
        nothing: rows that can write no child at all (a normaliser of −inf) are no fault.

    Raises:
        RetgenError: they are not finite.
    """
    fine = torch.isfinite(normaliser)
    if nothing:
        fine |= normaliser == float("-inf")
    if not bool(fine.all()):
        raise RetgenError(
            "the model's logits are not finite (NaN or infinite)",
            where="constrained search",
            mend="Check that its weights were loaded and trained without overflow; fp16 overflows where bf16 does not",
        )
