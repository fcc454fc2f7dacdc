"""One worker thread for the models, a bounded queue before it, and batches formed of what waits.

A batch is of one kind of job, in the order they came: while one batch is worked on, the next gathers. Nothing is
waited for, so that a lone request is not held up. Nothing here knows what a job is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from retgen.errors import RetgenError, UsageError

_SMOOTHING = 0.2
_WAITING = 0.5
"""Of the time until a deadline, what a job may be expected to wait. The rest is its batch's, which would have to be
small if jobs came to their turn at the last moment; and small batches make a loaded server slower still."""
_WORKING = 0.8
"""Of the time left when its turn comes, what its batch is planned for: how long jobs take is only an estimate."""


class OverloadedError(RetgenError):
    """There is more to do than can be done in time; ``retry_after`` says when to come again, in seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(what, mend="Come again later")
        self.retry_after = retry_after


class DeadlineError(OverloadedError):
    """A job whose deadline passed before it was done."""


@dataclass(slots=True)
class Job:
    """A piece of work.

    Args:
        kind: jobs of one kind may share a batch.
        payload: what the kind's function gets.
        deadline: on `time.monotonic`'s clock.
        size: what it adds to a batch, e.g. pairs to score.
    """

    kind: str
    payload: Any
    deadline: float
    size: int = 1
    future: Future[Any] = field(default_factory=Future)
    entered: float = field(default_factory=time.monotonic)


Work = Callable[[str, Sequence[Any]], Sequence[Any]]
"""(kind, payloads) → one result each, in their order; an exception in a result's place is that job's own."""
Observe = Callable[[str, int, float, float], None]
"""Called after a batch: (kind, jobs, seconds of work, longest wait in the queue)."""


class Worker:
    """Runs jobs in batches on a thread of its own.

    Args:
        work: does a batch.
        queue: jobs that may wait.
        batch: jobs in a batch.
        batch_size: sum of sizes, beyond which no further job joins a batch.
        observe: told of every batch.
        name: of the thread.
    """

    def __init__(
        self,
        work: Work,
        *,
        queue: int,
        batch: int,
        batch_size: int = 1 << 30,
        observe: Observe | None = None,
        name: str = "worker",
    ) -> None:
        self._work = work
        self._capacity = queue
        self._batch = batch
        self._batch_size = batch_size
        self._observe = observe
        self._waiting: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._seconds: dict[str, float] = {}
        self._busy_until = 0.0
        self._running = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def submit(self, kind: str, payload: Any, deadline: float, size: int = 1) -> Future[Any]:
        """Queue a job. Its future may be cancelled as long as it waits.

        Raises:
            OverloadedError: the queue is full, or so long that the deadline would pass; or the worker is closing.
        """
        job = Job(kind, payload, deadline, size)
        with self._ready:
            self._check(deadline, kind)
            self._waiting.append(job)
            self._ready.notify()
        return job.future

    def check(self, deadline: float) -> None:
        """Refuse a job that `submit` would refuse, before anything is known of it but its deadline.

        Raises:
            OverloadedError: see `submit`.
        """
        with self._ready:
            self._check(deadline)

    def _check(self, deadline: float, kind: str = "") -> None:
        if self._closing:
            raise OverloadedError("this server is being stopped", 1.0)
        wait = self._expected_wait()
        if len(self._waiting) >= self._capacity:
            raise OverloadedError(f"{len(self._waiting)} requests wait already", max(wait, 1.0))
        # With nothing before it a job is always let in: what is expected must not keep it from being measured.
        left = _WAITING * (deadline - time.monotonic())
        if (self._waiting or self._running) and wait + self._seconds.get(kind, 0.0) > left:
            raise OverloadedError("this request could not be answered before its deadline", max(wait, 1.0))

    def close(self, timeout: float | None = None) -> bool:
        """Take on nothing more, finish what waits, and end; whether that was done in time."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _expected_wait(self) -> float:
        """Seconds until a job that comes now would be begun, by how long jobs of each kind took lately."""
        running = max(0.0, self._busy_until - time.monotonic())
        return running + sum(self._seconds.get(job.kind, 0.0) for job in self._waiting)

    def _loop(self) -> None:
        while True:
            with self._ready:
                while not self._waiting and not self._closing:
                    self._ready.wait()
                if not self._waiting:
                    return
                jobs = self._next_batch()
                if not jobs:
                    continue
                self._running = True
                self._busy_until = time.monotonic() + len(jobs) * self._seconds.get(jobs[0].kind, 0.0)
            self._run(jobs)

    def _next_batch(self) -> list[Job]:
        """The oldest job and those of its kind that wait behind it, as far as they fit; the rest keep their order.

        No job joins that would make the batch outlast the deadline of one that is in it.
        """
        now = time.monotonic()
        chosen: list[Job] = []
        left: deque[Job] = deque()
        size, earliest = 0, float("inf")
        for job in self._waiting:
            if job.deadline <= now and not job.future.cancelled():
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(DeadlineError("its turn did not come before its deadline", 1.0))
                continue
            planned = (len(chosen) + 1) * self._seconds.get(job.kind, 0.0)
            fits = not chosen or (
                job.kind == chosen[0].kind
                and len(chosen) < self._batch
                and size + job.size <= self._batch_size
                and planned <= _WORKING * (min(earliest, job.deadline) - now)
            )
            if not fits:
                left.append(job)
            elif job.future.set_running_or_notify_cancel():
                chosen.append(job)
                size += job.size
                earliest = min(earliest, job.deadline)
        self._waiting = left
        return chosen

    def _run(self, jobs: Sequence[Job]) -> None:
        begin = time.monotonic()
        waited = begin - min(job.entered for job in jobs)
        results = self._results(jobs[0].kind, [job.payload for job in jobs])
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        seconds = time.monotonic() - begin
        kind, each = jobs[0].kind, seconds / len(jobs)
        before = self._seconds.get(kind, each)
        self._seconds[kind] = before + _SMOOTHING * (each - before)
        self._running = False
        if self._observe is not None:
            self._observe(kind, len(jobs), seconds, waited)

    def _results(self, kind: str, payloads: Sequence[Any]) -> Sequence[Any]:
        try:
            results = self._work(kind, payloads)
            if len(results) != len(payloads):
                raise UsageError(f"{kind} gave {len(results)} results for {len(payloads)} jobs")
            return results
        except Exception as error:  # whatever it is, it belongs to the jobs, and the thread goes on
            if len(payloads) == 1:
                return [error]
        # One of them spoiled the batch: the others are not to suffer for it.
        return [result for payload in payloads for result in self._results(kind, [payload])]
