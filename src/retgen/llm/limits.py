"""What may be spent and how fast: a budget of tokens and money, and limits a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from retgen.errors import UsageError
from retgen.llm.errors import BudgetSpentError

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens, in any one currency.

    Args:
        prompt: of prompts.
        completion: of completions.

    Raises:
        UsageError: a price below 0.

    Example:
        >>> Price(0.5, 1.5).cost(1_000_000, 2_000_000)
        3.5
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not (self.prompt >= 0 and self.completion >= 0):
            raise UsageError(f"a price cannot be below 0; got {self.prompt} and {self.completion}")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


class Budget:
    """Counts what is spent, and what requests under way may still cost at most, so that a limit is never passed.

    Before a request is sent, more than it can cost is set aside, and what it did cost is counted after it: the last
    tokens of a budget, fewer than one request may take, remain unspent. Answers that were lost on their way count as
    estimated, for they may have been billed.

    Args:
        max_tokens: of prompts and completions together; None for no limit.
        max_cost: money; None for no limit.
        price: needed by ``max_cost``.

    Raises:
        UsageError: a limit of 0 or less, or a limit of money without a price.
    """

    def __init__(
        self, *, max_tokens: int | None = None, max_cost: float | None = None, price: Price | None = None
    ) -> None:
        for name, limit in (("max_tokens", max_tokens), ("max_cost", max_cost)):
            if limit is not None and not limit > 0:
                raise UsageError(f"a budget must be above 0; got {limit}", where=name)
        if max_cost is not None and price is None:
            raise UsageError(
                "a budget of money needs prices", where="max_cost", mend="Give the prices of a million tokens"
            )
        self.max_tokens = max_tokens
        self.max_cost = max_cost
        self.price = price
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.reserved_tokens = 0
        self.reserved_cost = 0.0

    @property
    def tokens(self) -> int:
        """Tokens spent, prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> float | None:
        """Money spent; None without prices."""
        return None if self.price is None else self.price.cost(self.prompt_tokens, self.completion_tokens)

    def reserve(self, prompt_tokens: int, completion_tokens: int) -> bool:
        """Set aside what a request may cost.

        Returns:
            False where that has to wait for the requests under way, which may cost less than was set aside.

        Raises:
            BudgetSpentError: nothing is under way, and it does not fit.
        """
        cost = 0.0 if self.price is None else self.price.cost(prompt_tokens, completion_tokens)
        tokens = prompt_tokens + completion_tokens
        fits = self.max_tokens is None or self.tokens + self.reserved_tokens + tokens <= self.max_tokens
        fits = fits and (self.max_cost is None or (self.cost or 0.0) + self.reserved_cost + cost <= self.max_cost)
        if fits:
            self.reserved_tokens += tokens
            self.reserved_cost += cost
        elif not self.reserved_tokens:
            raise BudgetSpentError(
                f"the budget is spent: {self}; the next request may take {tokens} tokens",
                mend="Give a larger budget and run it again: what was received is in the ledger",
            )
        return fits

    def settle(self, reserved: tuple[int, int], spent: tuple[int, int]) -> None:
        """Replace what was set aside by what was spent; both as (prompt tokens, completion tokens)."""
        self.reserved_tokens -= sum(reserved)
        self.reserved_cost -= 0.0 if self.price is None else self.price.cost(*reserved)
        if not self.reserved_tokens:
            self.reserved_cost = 0.0  # without what rounding left
        self.prompt_tokens += spent[0]
        self.completion_tokens += spent[1]

    def __str__(self) -> str:
        limit = "" if self.max_tokens is None else f" of {self.max_tokens}"
        text = f"{self.tokens}{limit} tokens"
        if self.cost is not None:
            text += f", {self.cost:.4g}" + ("" if self.max_cost is None else f" of {self.max_cost:g}") + " in money"
        return text


class Pace:
    """Spreads requests and tokens evenly, so that no minute has more of them than allowed.

    Evenly rather than in bursts: no window of a minute, wherever it begins, then holds more than the limit.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: prompts and completions together; None for no limit.
        clock: seconds; only differences count.

    Raises:
        UsageError: a limit of 0 or less.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if limit is not None and not limit > 0:
                raise UsageError(f"a limit of {name} a minute must be above 0; got {limit}")
        self._per_request = 0.0 if requests_per_minute is None else 60 / requests_per_minute
        self._per_token = 0.0 if tokens_per_minute is None else 60 / tokens_per_minute
        self._clock = clock
        self._next_request = 0.0
        self._next_tokens = 0.0

    def book(self, tokens: int) -> float:
        """Take the next free moment for a request of so many tokens.

        Returns:
            Seconds to wait until then.
        """
        now = self._clock()
        start = max(now, self._next_request, self._next_tokens)
        self._next_request = start + self._per_request
        self._next_tokens = start + self._per_token * tokens
        return start - now

    def correct(self, booked: int, spent: int) -> None:
        """Give back the time of tokens that were booked and not spent, or take more."""
        self._next_tokens += self._per_token * (spent - booked)
