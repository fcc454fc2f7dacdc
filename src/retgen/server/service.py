"""What the routes call: jobs with deadlines, batched before the models; changes of documents beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retgen.server import documents
from retgen.server.answering import answer
from retgen.server.batching import DeadlineError, Worker
from retgen.server.explaining import explain
from retgen.server.metrics import Metrics
from retgen.server.parts import Parts
from retgen.server.ranking_texts import rank_texts
from retgen.server.searching import search
from retgen.server.settings import Limits

SEARCH, RERANK, ANSWER, EXPLAIN, CHANGE = "search", "rerank", "answer", "explain", "change"
_WORK: Mapping[str, Callable[[Parts, Sequence[Any]], Sequence[Any]]] = {
    SEARCH: search,
    RERANK: rank_texts,
    ANSWER: answer,
    EXPLAIN: explain,
}


class Service:
    """An opened pipeline at work.

    Args:
        parts: the pipeline.
        limits: of queue, batches and time.

    Attributes:
        parts: the pipeline as it is now; another one after documents came or went.
        metrics: what was counted.
        draining: whether the server is being stopped.
    """

    def __init__(self, parts: Parts, limits: Limits) -> None:
        self.parts = parts
        self.limits = limits
        self.metrics = Metrics()
        self.draining = False
        self._models = Worker(
            self._work,
            queue=limits.queue,
            batch=limits.batch,
            batch_size=limits.batch_pairs,
            observe=self.metrics.observe_batch,
            name="retgen-models",
        )
        self._changes = Worker(
            self._change,
            queue=limits.changes,
            batch=limits.changes,
            observe=self.metrics.observe_batch,
            name="retgen-changes",
        )
        self.metrics.watch(lambda: self._models.waiting, lambda: self.parts.document_count)

    @property
    def ready(self) -> bool:
        """Whether it takes on work."""
        return not self.draining and self._models.alive and self._changes.alive

    def check(self, deadline: float) -> None:
        """Refuse a request that the models cannot answer in time, before it is read.

        Raises:
            OverloadedError: it would be refused once it is read.
        """
        self._models.check(deadline)

    async def run(self, kind: str, payload: object, deadline: float, size: int = 1) -> Any:
        """Have a job done by the models, in a batch with others of its kind.

        Args:
            kind: ``search``, ``rerank``, ``answer`` or ``explain``.
            payload: what that kind's function takes.
            deadline: on `time.monotonic`'s clock.
            size: pairs that the re-ranker scores for it.

        Raises:
            OverloadedError: it could not be done in time; a `DeadlineError` where it was tried.
            RetgenError: what the job itself met.
        """
        return await self._wait(self._models, kind, payload, deadline, size)

    async def change(self, job: documents.AddJob | documents.RemoveJob, deadline: float) -> Any:
        """Add or remove documents; see `run`. When it is done, searches begin to see it."""
        # Encoding new documents and new questions is one model's work, which two threads must not ask at once.
        worker = self._models if "dense" in self.parts.index.retrievers else self._changes
        return await self._wait(worker, CHANGE, job, deadline, 1)

    def close(self) -> bool:
        """Finish what was taken on, and end the threads; whether that was done in the time given."""
        self.draining = True
        end = time.monotonic() + self.limits.shutdown_seconds
        done = self._models.close(self.limits.shutdown_seconds)
        return self._changes.close(max(0.0, end - time.monotonic())) and done

    async def _wait(self, worker: Worker, kind: str, payload: object, deadline: float, size: int) -> Any:
        future = worker.submit(kind, payload, deadline, size)
        try:
            result = await asyncio.wait_for(asyncio.wrap_future(future), max(0.0, deadline - time.monotonic()))
            if kind != CHANGE and time.monotonic() > deadline:  # a busy machine may have woken this up too late
                raise TimeoutError
            return result
        except TimeoutError as error:
            going_on = "; it is being made and may yet be done" if kind == CHANGE and future.running() else ""
            raise DeadlineError(f"this was not done before its deadline{going_on}", 1.0) from error

    def _work(self, kind: str, payloads: Sequence[Any]) -> Sequence[Any]:
        if kind == CHANGE:
            return self._change(kind, payloads)
        return _WORK[kind](self.parts, payloads)

    def _change(self, _kind: str, payloads: Sequence[Any]) -> Sequence[Any]:
        self.parts, done = documents.change(self.parts, payloads)
        return done
