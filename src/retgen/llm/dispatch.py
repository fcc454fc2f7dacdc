"""Many prompts through one endpoint, so many at a time, each until it has its completion or is given up.

Knows neither HTTP nor the client: it is handed a function that makes one attempt. Nothing is asked that the ledger
holds, and a completion is in the ledger before anyone is told of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from retgen.errors import RetgenError
from retgen.llm.endpoint import Reply, Send
from retgen.llm.errors import BudgetSpentError, EndpointError
from retgen.llm.faults import MAY_BE_BILLED, AttemptFailedError, Cause, RetryPolicy
from retgen.llm.ledger import Ledger, LedgerEntry
from retgen.llm.limits import Budget, Pace
from retgen.llm.outcomes import Outcome, Tally
from retgen.llm.requests import CompletionRequest

_CACHED_IN_A_ROW = 256
"""So many answers from the ledger before others get their turn."""
_HOPELESS = 8
"""So many requests refused for what they are, and not one completed: all will be."""
_LOST_IN_A_ROW = 32
"""So many failed attempts of whatever prompts with no completion between them: an endpoint that fails often but not
always gets there rarely (at 60 % failures, once in ten million), and one that is down gets there at once."""
_WAITING_PER_WORKER = 4
"""While so many prompts wait to be tried again, no new ones are begun: the endpoint has trouble enough."""


@dataclass(slots=True)
class _Job:
    request: CompletionRequest
    numbers: list[int]
    failed: int = 0
    empty: int = 0
    refused: int = 0
    waited: float = 0.0
    error: str = ""
    begun: int | None = None
    """How many completions there were when it was first tried."""


@dataclass(slots=True)
class Dispatch:
    """One set of prompts on its way; used once.

    Args:
        send: makes one attempt.
        ledger: asked first, and told first.
        where: the endpoint's name for the ledger and errors.
        policy: of retries.
        pace: limits a minute.
        concurrency: most attempts under way at a time.
        tally: takes the outcomes; its budget is drawn on.
    """

    send: Send
    ledger: Ledger
    where: str
    policy: RetryPolicy
    pace: Pace
    concurrency: int
    tally: Tally
    _under_way: dict[str, _Job] = field(default_factory=dict)
    _failed: list[_Job] = field(default_factory=list)
    _again: asyncio.Queue[_Job | None] = field(default_factory=asyncio.Queue)
    _spent: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: Exception | None = None
    _exhausted: bool = False
    _open: int = 0
    _waiting: int = 0
    _answers: int = 0
    _completions: int = 0
    _hopeless: int = 0
    _refused_in_a_row: int = 0
    _lost_in_a_row: int = 0
    _paused_until: float = 0.0

    @property
    def budget(self) -> Budget:
        """Of tokens and money."""
        return self.tally.budget

    async def run(self, requests: Iterable[CompletionRequest]) -> list[Outcome]:
        """Complete all prompts; those that are given up get a second round when the others are done.

        Args:
            requests: read as they are needed, so that they need not all fit into memory. Equal ones are asked once.

        Returns:
            One outcome for each, in their order.

        Raises:
            BudgetSpentError: the budget does not allow the next one.
            EndpointError: the endpoint cannot be used (any more).
            ArtefactError: the ledger cannot be written.
            All of them after the attempts under way have ended; what was received is in the ledger.
        """
        await self._work(enumerate(requests))
        if self._stop is None and self._failed:
            second, self._failed = self._failed, []
            for job in second:
                self.tally.given_up -= len(job.numbers)
                known = self._under_way.get(job.request.key)
                if known is not None:  # asked a second time, after the first was given up
                    known.numbers.extend(job.numbers)
                    continue
                self._open += 1
                self._under_way[job.request.key] = again = _Job(job.request, job.numbers)
                self._again.put_nowait(again)
                self._waiting += 1
            await self._work(iter(()))
        if self._stop is not None:
            raise self._stop
        for job in self._failed:
            self.tally.given_up -= len(job.numbers)
            self.tally.record(job.numbers, Outcome(None, error=job.error))
        return self.tally.in_order()

    async def _work(self, numbered: Iterator[tuple[int, CompletionRequest]]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._worker(numbered))

    async def _worker(self, numbered: Iterator[tuple[int, CompletionRequest]]) -> None:
        try:
            while self._stop is None and (job := await self._next(numbered)) is not None:
                await self._attempt(job)
        except Exception as error:  # of whoever makes the requests, or of the ledger: the others end their attempts
            self._stop = self._stop or error
            self._stopped.set()
        self._wake()

    async def _next(self, numbered: Iterator[tuple[int, CompletionRequest]]) -> _Job | None:
        """A job whose waiting time is over, else a new one; None when there will be no more."""
        while self._stop is None:
            while not self._again.empty():
                job = self._again.get_nowait()
                if job is not None:
                    self._waiting -= 1
                    return job
            if self._waiting < _WAITING_PER_WORKER * self.concurrency:
                job = await self._new(numbered)
                if job is not None:
                    return job
                if not self._open:
                    return None
            job = await self._again.get()
            if job is not None:
                self._waiting -= 1
                return job
        return None

    async def _new(self, numbered: Iterator[tuple[int, CompletionRequest]]) -> _Job | None:
        """The next job that is neither in the ledger nor under way."""
        for read, (number, request) in enumerate(numbered, start=1):
            key = request.key
            known = self._under_way.get(key)
            if known is not None:
                known.numbers.append(number)
            elif (entry := self.ledger.by_key(key)) is not None:
                self.tally.record([number], Outcome(entry.completion, entry.finish_reason, cached=True))
            else:
                self._open += 1
                job = self._under_way[key] = _Job(request, [number])
                return job
            if read % _CACHED_IN_A_ROW == 0:
                await asyncio.sleep(0)
                if self._stop is not None:
                    return None
        self._exhausted = True
        return None

    async def _attempt(self, job: _Job) -> None:
        request = job.request
        reserved = (request.prompt_tokens_limit, request.completion_tokens_limit)
        expected = (request.prompt_tokens_estimate, request.completion_tokens_limit)
        if not await self._allowed(reserved):
            return
        spent = (0, 0)
        try:
            await self._wait_for_leave(sum(expected))
            if self._stop is not None:
                return
            # Another process may have asked the same meanwhile.
            entry = self.ledger.by_key(request.key)
            if entry is not None:
                self._settle(job, Outcome(entry.completion, entry.finish_reason, cached=True))
                return
            if job.begun is None:
                job.begun = self._completions
            start = time.monotonic()
            try:
                reply = await self.send(request)
            except AttemptFailedError as fault:
                spent = fault.tokens or (expected if fault.cause in MAY_BE_BILLED else (0, 0))
                self._failed_attempt(job, fault)
            else:
                spent = _counted(reply, expected)
                self._received(job, reply, time.monotonic() - start, spent)
        finally:
            self.budget.settle(reserved, spent)
            self.pace.correct(sum(expected), sum(spent))
            self._spent.set()

    async def _allowed(self, reserved: tuple[int, int]) -> bool:
        """Wait until the budget allows a request; False where the whole work stops instead."""
        while self._stop is None:
            self._spent.clear()
            try:
                if self.budget.reserve(*reserved):
                    return True
            except BudgetSpentError as error:
                self._halt(error)
                return False
            await self._spent.wait()
        return False

    async def _wait_for_leave(self, tokens: int) -> None:
        await self._sleep(self.pace.book(tokens))
        while (delay := self._paused_until - time.monotonic()) > 0 and self._stop is None:
            await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        """Wait so long, or until the work stops: with few requests a minute, places are minutes away."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)

    def _received(self, job: _Job, reply: Reply, seconds: float, spent: tuple[int, int]) -> None:
        self._answers += 1
        self._completions += 1
        self._refused_in_a_row = self._lost_in_a_row = 0
        price = self.budget.price
        kept = self.ledger.put(
            LedgerEntry(
                job.request,
                reply.text,
                reply.finish_reason,
                reply.prompt_tokens,
                reply.completion_tokens,
                None if price is None else price.cost(*spent),
                self.where,
                time.time(),
                seconds,
            )
        )
        self._settle(job, Outcome(kept.completion, kept.finish_reason))

    def _failed_attempt(self, job: _Job, fault: AttemptFailedError) -> None:
        job.error = fault.message
        job.empty = job.empty + 1 if fault.cause is Cause.EMPTY else 0
        answered = fault.cause not in (Cause.CONNECTION, Cause.TIMEOUT)
        self._answers += answered
        if fault.cause is Cause.FATAL:
            self._halt(EndpointError(fault.message, where=self.where, mend=fault.mend))
        elif fault.cause is Cause.REQUEST:
            self._not_possible(job, fault)
        elif job.empty >= self.policy.empty_attempts:
            tokens = fault.tokens or (0, 0)
            self._received(job, Reply("", "empty", *tokens), 0.0, tokens)
        elif fault.cause is Cause.REFUSED:
            self._refused(job, fault)
        else:
            self._lost(job, fault)

    def _not_possible(self, job: _Job, fault: AttemptFailedError) -> None:
        self._settle(job, Outcome(None, error=fault.message))
        self._hopeless += 1
        if not self._completions and self._hopeless >= _HOPELESS:
            what = f"the first {self._hopeless} requests were all refused, the last so: {fault.message}"
            self._halt(EndpointError(what, where=self.where, mend="Check the parameters and the prompts"))

    def _refused(self, job: _Job, fault: AttemptFailedError) -> None:
        job.refused += 1
        self._refused_in_a_row += 1
        wait = self.policy.wait(job.refused, fault.retry_after)
        if wait > self.policy.patience:
            what = f"the endpoint asks to wait {wait:.0f} s: {fault.message}"
            self._halt(EndpointError(what, where=self.where, mend="Run it again later"))
            return
        # One refusal may be an accident; several in a row mean that everybody is too fast.
        if self._refused_in_a_row > 1:
            self._paused_until = max(self._paused_until, time.monotonic() + wait)
        job.waited += wait
        if job.waited <= self.policy.patience:
            self._later(job, wait)
        elif self._completions == job.begun:
            # As with lost answers: to wait as long for every prompt that is left would take days.
            what = f"the endpoint has completed nothing for {self.policy.patience:g} s of waiting: {fault.message}"
            mend = "Run it again later, with fewer requests a minute or at a time"
            self._halt(EndpointError(what, where=self.where, mend=mend))
        else:
            self._give_up(job)

    def _lost(self, job: _Job, fault: AttemptFailedError) -> None:
        job.failed += 1
        self._lost_in_a_row += 1
        if not self._answers and job.failed >= min(self.policy.unreachable_attempts, self.policy.attempts):
            self._halt(
                EndpointError(
                    f"the endpoint cannot be reached: {fault.message}",
                    where=self.where,
                    mend="Check the URL, and that the server runs; then run it again",
                )
            )
        elif job.failed < self.policy.attempts:
            self._later(job, self.policy.wait(job.failed, fault.retry_after))
        elif not self._exhausted and self._completions == job.begun and self._lost_in_a_row >= _LOST_IN_A_ROW:
            # No one else got anything meanwhile: to go on would only use up the prompts that are left.
            self._halt(
                EndpointError(
                    f"the endpoint completes nothing more: {job.failed} attempts failed, the last so: {fault.message}",
                    where=self.where,
                    mend="Run it again when it does",
                )
            )
        else:
            self._give_up(job)

    def _later(self, job: _Job, wait: float) -> None:
        self.tally.retries += 1
        self._waiting += 1
        asyncio.get_running_loop().call_later(wait, self._again.put_nowait, job)

    def _give_up(self, job: _Job) -> None:
        self._failed.append(job)
        self.tally.given_up += len(job.numbers)
        self.tally.show()
        self._closed(job)

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        self.tally.record(job.numbers, outcome)
        self._closed(job)

    def _closed(self, job: _Job) -> None:
        self._under_way.pop(job.request.key, None)
        self._open -= 1
        if not self._open and self._exhausted:
            self._wake()

    def _halt(self, error: RetgenError) -> None:
        if self._stop is None:
            standing = self.tally.standing
            of = "" if standing.total is None else f" of {standing.total}"
            # Those behind the last that was read may be there too.
            done = f"At least {standing.done}{of} prompts have their completion in the ledger {self.ledger.path}"
            mend = f"{error.mend}. {done}" if error.mend else done
            self._stop = type(error)(error.what, where=error.where or self.where, mend=mend)
            self._stopped.set()
        self._wake()

    def _wake(self) -> None:
        """Let everyone who waits look again whether there is anything to be done."""
        self._spent.set()
        for _ in range(self.concurrency):
            self._again.put_nowait(None)


def _counted(reply: Reply, expected: tuple[int, int]) -> tuple[int, int]:
    """Tokens as the endpoint counts them; where it does not, as they were estimated."""
    prompt = expected[0] if reply.prompt_tokens is None else reply.prompt_tokens
    return prompt, expected[1] if reply.completion_tokens is None else reply.completion_tokens
