"""What became of each prompt of a set, and how far the set has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from retgen.llm.limits import Budget
from retgen.llm.progress import OnStanding, Standing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one prompt.

    Args:
        text: the completion; None where there is none.
        finish_reason: why it ended; empty without a completion.
        cached: it was in the ledger.
        error: why there is no completion.
    """

    text: str | None
    finish_reason: str = ""
    cached: bool = False
    error: str | None = None


@dataclass(slots=True)
class Tally:
    """Outcomes by the prompts' numbers, counted as they come in.

    Args:
        budget: what is spent; only what is spent from now on is counted here.
        total: prompts in all, where that is known.
        on_standing: told after every prompt.
    """

    budget: Budget
    total: int | None = None
    on_standing: OnStanding | None = None
    retries: int = 0
    given_up: int = 0
    """Prompts that failed so far and will be tried again at the end."""
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _cached: int = 0
    _failed: int = 0
    _begin: float = field(default_factory=time.monotonic)
    _spent_before: tuple[int, int, float] = (0, 0, 0.0)

    def __post_init__(self) -> None:
        self._spent_before = (self.budget.prompt_tokens, self.budget.completion_tokens, self.budget.cost or 0.0)

    def record(self, numbers: list[int], outcome: Outcome) -> None:
        """Write down what became of a prompt that was asked under these numbers."""
        for place, number in enumerate(numbers):
            # Whoever asked the same a second time got it for nothing.
            cached = outcome.text is not None and (outcome.cached or place > 0)
            self._outcomes[number] = Outcome(outcome.text, outcome.finish_reason, cached, outcome.error)
            self._cached += cached
            self._failed += outcome.text is None
        self.show()

    def show(self) -> None:
        """Tell the callback."""
        if self.on_standing is not None:
            self.on_standing(self.standing)

    def in_order(self) -> list[Outcome]:
        """All outcomes by number; to be asked when every number has one."""
        return [self._outcomes[number] for number in range(len(self._outcomes))]

    @property
    def standing(self) -> Standing:
        """How far it has come."""
        cost = self.budget.cost
        return Standing(
            done=len(self._outcomes) - self._failed,
            cached=self._cached,
            failed=self._failed + self.given_up,
            retries=self.retries,
            total=self.total,
            prompt_tokens=self.budget.prompt_tokens - self._spent_before[0],
            completion_tokens=self.budget.completion_tokens - self._spent_before[1],
            cost=None if cost is None else cost - self._spent_before[2],
            seconds=time.monotonic() - self._begin,
        )
