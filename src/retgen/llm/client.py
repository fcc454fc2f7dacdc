"""A language model behind an OpenAI-compatible endpoint: prompts in, completions out, each paid for once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sized
from typing import Any, TypeVar

from retgen.errors import UsageError
from retgen.llm.dispatch import Dispatch
from retgen.llm.endpoint import Endpoint
from retgen.llm.faults import RetryPolicy
from retgen.llm.ledger import IN_MEMORY, Ledger
from retgen.llm.limits import Budget, Pace
from retgen.llm.outcomes import Outcome, Tally
from retgen.llm.progress import OnStanding
from retgen.llm.requests import CompletionRequest

Made = TypeVar("Made")
DEFAULT_CONCURRENCY = 16


class EndpointClient:
    """Completes prompts at an endpoint: many at a time, with retries, limits and a budget, and through a ledger.

    What the ledger holds is not asked again. Interrupt it, kill it, let the budget end it: the next call with the same
    requests goes on where it stopped.

    Args:
        endpoint: where the model is served.
        ledger: keeps completions; without one they are kept in memory, as long as this client lives.
        concurrency: most requests under way at a time.
        policy: of retries; the client library's own are off.
        requests_per_minute: a limit of the endpoint to keep.
        tokens_per_minute: likewise, prompts and completions together.
        budget: that must not be passed; it counts over all calls of this client.
        on_standing: told after every prompt how far it has come.

    Raises:
        UsageError: a number below 1.

    Example:
        >>> client = EndpointClient(Endpoint("http://localhost:8000/v1"), Ledger("ledger.sqlite"))  # doctest: +SKIP
        >>> client.complete([CompletionRequest("my-model", "Say hello.")])[0].text  # doctest: +SKIP
        'Hello!'
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ledger: Ledger | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        policy: RetryPolicy | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        budget: Budget | None = None,
        on_standing: OnStanding | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1; got {concurrency}")
        self.endpoint = endpoint
        self.ledger = ledger if ledger is not None else Ledger(IN_MEMORY)
        self.concurrency = concurrency
        self.policy = policy if policy is not None else RetryPolicy()
        self.budget = budget if budget is not None else Budget()
        self.on_standing = on_standing
        self._pace = Pace(requests_per_minute, tokens_per_minute)

    def complete(self, requests: Iterable[CompletionRequest], total: int | None = None) -> list[Outcome]:
        """Complete prompts. Works inside a running event loop too, which it blocks; there, prefer `complete_async`.

        Args:
            requests: read as they are needed.
            total: how many they are, for the progress; by default their length, where they have one.

        Returns:
            One outcome for each, in their order. An outcome without a text has an error: that prompt was refused for
            what it is, or failed in two rounds of attempts.

        Raises:
            EndpointError: no such host, key or model, or an endpoint that answers no more.
            BudgetSpentError: the budget does not allow the next prompt.
            ArtefactError: the ledger cannot be written.
            MissingExtraError: the package ``openai`` is not installed.
        """
        return blocking(self.complete_async(requests, total))

    async def complete_async(self, requests: Iterable[CompletionRequest], total: int | None = None) -> list[Outcome]:
        """See `complete`."""
        if total is None and isinstance(requests, Sized):
            total = len(requests)
        async with self.endpoint.connection() as send:
            dispatch = Dispatch(
                send,
                self.ledger,
                self.endpoint.base_url,
                self.policy,
                self._pace,
                self.concurrency,
                Tally(self.budget, total, self.on_standing),
            )
            return await dispatch.run(requests)


def blocking(coroutine: Coroutine[Any, Any, Made]) -> Made:
    """Run a coroutine to its end; where an event loop runs already (a notebook, a server), in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    made: list[Made] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(asyncio.run(coroutine))
        except BaseException as error:  # raised again below, in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=work, name="retgen-llm")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
