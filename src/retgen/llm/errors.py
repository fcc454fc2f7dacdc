"""What can go wrong between a prompt and its completion, as errors that say how to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retgen.errors import RetgenError


class EndpointError(RetgenError):
    """An endpoint that cannot be used as it was asked for: no such host, key, model or path, or no answers any more."""


class BudgetSpentError(RetgenError):
    """The budget of tokens or money is spent; what was received is in the ledger."""


class CompletionsFailedError(RetgenError):
    """Some prompts got no completion, others did.

    Args:
        reasons: number of the item, in the order it was given → why it has none.
        texts: the completions of all items, None for those without.
    """

    def __init__(self, reasons: Mapping[int, str], texts: Sequence[str | None]) -> None:
        self.reasons = dict(reasons)
        self.texts = list(texts)
        first = min(self.reasons)
        super().__init__(
            f"{len(self.reasons)} of {len(self.texts)} prompts got no completion; the first, number {first + 1}: "
            f"{self.reasons[first]}",
            mend="Run it again: the others are in the ledger and cost nothing",
        )
