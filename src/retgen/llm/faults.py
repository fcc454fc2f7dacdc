"""The one place that decides what an attempt's failure means: wait and try again, give the prompt up, or stop."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from retgen.errors import UsageError


class Cause(Enum):
    """Why an attempt gave no completion."""

    REFUSED = "refused"
    """Too many requests or tokens at the moment (429)."""
    SERVER = "server"
    """The server failed (5xx, 408, 409)."""
    CONNECTION = "connection"
    """No connection, or one that broke."""
    TIMEOUT = "timeout"
    """No whole answer in time."""
    MALFORMED = "malformed"
    """An answer that is not what the protocol says, e.g. half of its JSON."""
    EMPTY = "empty"
    """An answer without text."""
    REQUEST = "request"
    """This prompt cannot be completed here, e.g. it is too long: the same attempt would fail again."""
    FATAL = "fatal"
    """No prompt can be completed so: wrong key, unknown model, no credit."""


MAY_BE_BILLED = frozenset({Cause.TIMEOUT, Cause.CONNECTION, Cause.MALFORMED, Cause.EMPTY})
"""Causes after which the answer may have been written and charged."""


class AttemptFailedError(Exception):
    """One attempt that gave no completion.

    Args:
        cause: of the failure.
        message: what the endpoint or the connection said; never with a key.
        retry_after: seconds the endpoint asked to wait.
        mend: of a fatal one, what the user can do.
        tokens: (prompt, completion) the endpoint counted, where an answer was received.
    """

    def __init__(
        self,
        cause: Cause,
        message: str,
        *,
        retry_after: float | None = None,
        mend: str | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.retry_after = retry_after
        self.mend = mend
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when an attempt is repeated.

    Args:
        attempts: most attempts for one prompt; refusals (429) do not count, they are waited for.
        empty_attempts: after so many empty answers in a row the empty one is taken as what the model has to say.
        unreachable_attempts: most attempts for one prompt while the endpoint has never answered.
        first_wait: seconds before the second attempt, doubled from attempt to attempt.
        longest_wait: seconds, where the endpoint asks for no longer one.
        patience: seconds that one prompt may be refused in all, and the longest Retry-After that is waited for.

    Raises:
        UsageError: a number of attempts below 1, or a negative time.
    """

    attempts: int = 8
    empty_attempts: int = 4
    unreachable_attempts: int = 3
    first_wait: float = 0.5
    longest_wait: float = 30.0
    patience: float = 600.0

    def __post_init__(self) -> None:
        if min(self.attempts, self.empty_attempts, self.unreachable_attempts) < 1:
            raise UsageError("every prompt needs at least 1 attempt")
        if min(self.first_wait, self.longest_wait, self.patience) < 0:
            raise UsageError("waiting times cannot be below 0")

    def wait(self, failed: int, retry_after: float | None = None) -> float:
        """Seconds to wait after the ``failed``-th failed attempt: back-off with jitter, at least Retry-After."""
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(failed - 1, 30))
        return max(longest * random.uniform(0.5, 1.0), retry_after or 0.0)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that an answer's headers ask to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.

    Example:
        >>> retry_after({"retry-after": "1.5"}), retry_after({"retry-after": "soon"})
        (1.5, None)
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                moment = email.utils.parsedate_to_datetime(value).timestamp()
            except (TypeError, ValueError):
                continue
            seconds = moment - (time.time() if now is None else now)
        if seconds == seconds:  # not NaN
            return max(0.0, seconds)
    return None
