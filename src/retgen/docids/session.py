"""What a model must offer to be searched: a block of queries, decoded row by row.

The search knows trees and scores, a session knows models; neither knows the other's insides. `retgen.models` has the
sessions of our models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class DecoderSession(Protocol):
    """One block of ``batch_size`` queries being decoded, with ``m`` live rows per query; ``m`` is 1 at the first step.

    The tokens and parents it is given lie on the CPU; the session moves them to its device, and returns logits there.
    Rows that a query does not need are filled with copies of live ones, and their logits are not looked at.
    """

    batch_size: int
    vocab_size: int

    def step(self, tokens: Tensor) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: ``(batch_size, m)`` int64, the last token of each row; at the first step the start token, m = 1.

        Returns:
            ``(batch_size, m, vocab_size)`` fp32 logits, computed in fp32 from the output projection on.
        """
        ...

    def reorder(self, parents: Tensor) -> None:
        """Make the rows for the next step.

        Args:
            parents: ``(batch_size, m')`` int64, for each new row the number, within its query, of the row it continues.
        """
        ...


@runtime_checkable
class ScoringSession(Protocol):
    """A session that can also score given continuations in one teacher-forced pass."""

    batch_size: int
    vocab_size: int

    def score(self, tokens: Tensor) -> Tensor:
        """Logits at every position.

        Args:
            tokens: ``(batch_size, m, length)`` int64 decoder inputs, the start token first.

        Returns:
            ``(batch_size, m, length, vocab_size)`` fp32 logits: those at position ``t`` are for the token after it.
        """
        ...
