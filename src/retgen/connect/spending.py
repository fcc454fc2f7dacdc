"""What texts cost when they were written, whoever paid for them and when: sums over a ledger's entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from retgen.llm.ledger import Ledger
from retgen.llm.requests import CompletionRequest


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums over completions.

    Args:
        completions: how many; equal prompts count once.
        prompt_tokens: as the endpoint counts them.
        completion_tokens: likewise.
        money: None where the price of any of them is not known.
        seconds: that the endpoint took, one after the other; concurrent ones overlap.
    """

    completions: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None
    seconds: float

    @property
    def tokens(self) -> int:
        """Of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spending) -> Spending:
        money = None if self.money is None or other.money is None else self.money + other.money
        return Spending(
            self.completions + other.completions,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            money,
            self.seconds + other.seconds,
        )


NOTHING = Spending(0, 0, 0, 0.0, 0.0)


def spending(ledger: Ledger, requests: Iterable[CompletionRequest]) -> Spending:
    """What the completions of these requests cost. Attempts that gave none are not counted: no ledger has them.

    Example:
        >>> from retgen.llm import LedgerEntry
        >>> ledger, request = Ledger(":memory:"), CompletionRequest("m", "Say 1.")
        >>> _ = ledger.put(LedgerEntry(request, "1", prompt_tokens=4, completion_tokens=1))
        >>> spending(ledger, [request, request]).tokens
        5
    """
    total = NOTHING
    seen: set[str] = set()
    for request in requests:
        if request.key in seen:
            continue
        seen.add(request.key)
        entry = ledger.by_key(request.key)
        if entry is not None:
            total += Spending(1, entry.prompt_tokens or 0, entry.completion_tokens or 0, entry.cost, entry.seconds)
    return total
