"""How far a set of prompts has come: what callbacks are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a set of prompts stands.

    Args:
        done: prompts with a completion, from the ledger or new.
        cached: those of them that were in the ledger.
        failed: prompts that were given up, and may be tried again.
        retries: attempts that were repeated.
        total: prompts in all; None while that is not known.
        prompt_tokens: spent on new completions.
        completion_tokens: likewise.
        cost: money spent; None without prices.
        seconds: since the beginning.
    """

    done: int
    cached: int
    failed: int
    retries: int
    total: int | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """Time until all are done at the pace of the new ones so far; None where nothing can be said yet.

        Example:
            >>> Standing(60, 10, 0, 0, 110, 0, 0, None, 100.0).seconds_left
            100.0
        """
        fresh = self.done - self.cached + self.failed
        if self.total is None or not fresh:
            return None
        return max(0, self.total - self.done - self.failed) * self.seconds / fresh


OnStanding = Callable[[Standing], None]
