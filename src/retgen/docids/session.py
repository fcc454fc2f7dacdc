"""What a model must offer to be searched: a block of queries, decoded row by row.

The search knows trees and scores, a session knows models; neither knows the other's insides. `retgen.models` has the
sessions of our models. The least that will do is a `DecoderSession`, whose queries all have equally many rows; a
`RowSession`, whose rows come as the search needs them, is quicker, and one is made of the other by `rows.as_rows`.
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


class RowOutputs(Protocol):
    """What a decoder gives after each of ``n`` tokens that it has read. The output projection waits until asked."""

    def logits(self, places: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of the next token after chosen ones of the ``n`` tokens read.

        Args:
            places: ``(p,)`` int64 on the CPU, from 0 to ``n − 1``.
            tokens: ``(t,)`` int64 on the CPU: only these are looked at, so that only their rows of the output
                projection need be computed; all by default.

        Returns:
            ``(p, vocab_size)`` or ``(p, t)`` fp32 on the session's device, the projection computed in fp32.
        """
        ...


@runtime_checkable
class TargetOutputs(RowOutputs, Protocol):
    """Outputs that score given tokens without the logits of all of them; what docids are read to their ends with."""

    def log_probs(self, places: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability, over the whole vocabulary, of one token after each of chosen ones of the tokens read.

        Args:
            places: ``(p,)`` int64 on the CPU, from 0 to ``n − 1``.
            tokens: ``(p,)`` int64 on the CPU.

        Returns:
            ``(p,)`` fp32 on the session's device.

        Raises:
            RetgenError: the logits are not finite.
        """
        ...


@runtime_checkable
class ListOutputs(TargetOutputs, Protocol):
    """Outputs that also score several tokens a place so; what the children of a node are scored with."""

    def list_log_probs(self, places: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities, over the whole vocabulary, of tokens after each of chosen ones of the tokens read.

        Args:
            places: ``(p,)`` int64 on the CPU, from 0 to ``n − 1``.
            tokens: ``(p, m)`` int64 on the CPU.

        Returns:
            ``(p, m)`` fp32 on the session's device.

        Raises:
            RetgenError: the logits are not finite.
        """
        ...


@runtime_checkable
class RowSession(Protocol):
    """One block of ``batch_size`` queries being decoded, with as many rows of each as the search needs.

    All that it is given lies on the CPU. Before the first step there is one row for each query, with nothing read.
    """

    batch_size: int
    vocab_size: int

    def step_rows(
        self, parents: Tensor, tokens: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[RowOutputs, RowOutputs | None]:
        """One more token of rows that go on, and in the same pass all that is left of rows that end.

        Args:
            parents: ``(n,)`` int64: for each row that goes on, the number of the row it continues (at first: its
                query). These become the rows; one that nobody continues is forgotten.
            tokens: ``(n,)`` int64, the token each of them reads.
            tails: ``(r,)`` rows that are continued to their ends, and ``(r, T)`` the tokens they read, negative
                ids behind the last; nothing of them is kept.

        Returns:
            What stands after each of the ``n`` tokens, and, row by row, after each of the ``r · T``.
        """
        ...

    def read_rows(self, queries: Tensor, tokens: Tensor) -> RowOutputs:
        """Whole texts, each read from its beginning; the rows being decoded stay as they are.

        Args:
            queries: ``(r,)`` int64, the query of each text.
            tokens: ``(r, T)`` int64, the start token first, negative ids behind the last.

        Returns:
            What stands after each of the ``r · T`` tokens, row by row.
        """
        ...

    def in_fp32(self) -> RowSession:
        """A session over the same encoded queries whose decoder computes in fp32; this one where it does already."""
        ...
