"""Batches: what they gather, that they change no answer, and that nothing is lost, stuck or late without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from retgen import almanac
from retgen.server.batching import DeadlineError, OverloadedError, Worker
from tests.server.serving import Client, at_once, opened, running

FAR = 1e9


class Held:
    """Work that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[Any]]] = []
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, kind: str, payloads: Sequence[Any]) -> list[Any]:
        self.batches.append((kind, list(payloads)))
        self.begun.set()
        assert self.let_go.wait(60)
        if "spoil" in payloads:
            raise ValueError("spoilt")
        return [f"{kind} {payload}" for payload in payloads]


def held(**options: Any) -> tuple[Worker, Held, Future[Any]]:
    """A worker that is busy with a first job."""
    work = Held()
    worker = Worker(work, **{"queue": 100, "batch": 100, **options})
    first = worker.submit("a", "first", FAR)
    assert work.begun.wait(60)
    return worker, work, first


def test_what_waits_goes_together_by_kind_in_the_order_it_came() -> None:
    worker, work, first = held(batch=3)
    order = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("a", 5), ("b", 6)]
    futures = [worker.submit(kind, number, FAR) for kind, number in order]
    work.let_go.set()
    assert [future.result(60) for future in futures] == [f"{kind} {number}" for kind, number in order]
    assert first.result() == "a first"
    assert work.batches[1:] == [("a", [1, 3, 4]), ("b", [2, 6]), ("a", [5])]
    assert worker.close(60)


def test_batches_are_bounded_by_size_too() -> None:
    worker, work, _ = held(batch_size=10)
    futures = [worker.submit("a", number, FAR, size) for number, size in enumerate([6, 4, 3, 50, 1])]
    work.let_go.set()
    assert all(future.result(60) for future in futures)
    assert [payloads for _, payloads in work.batches[1:]] == [[0, 1], [2, 4], [3]]
    assert worker.close(60)


def test_one_spoilt_job_does_not_spoil_its_batch() -> None:
    worker, work, _ = held()
    futures = [worker.submit("a", payload, FAR) for payload in (1, "spoil", 2)]
    work.let_go.set()
    assert [futures[0].result(60), futures[2].result(60)] == ["a 1", "a 2"]
    with pytest.raises(ValueError, match="spoilt"):
        futures[1].result(60)
    assert worker.alive
    assert worker.close(60)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    worker, work, _ = held(queue=2)
    waiting = [worker.submit("a", number, FAR) for number in range(2)]
    with pytest.raises(OverloadedError, match="2 requests wait") as caught:
        worker.submit("a", 3, FAR)
    assert caught.value.retry_after >= 1
    work.let_go.set()
    assert [future.result(60) for future in waiting] == ["a 0", "a 1"]
    assert worker.submit("a", 4, FAR).result(60) == "a 4"
    assert worker.close(60)


def test_late_and_cancelled_jobs_are_not_worked_on() -> None:
    worker, work, _ = held()
    late = worker.submit("a", "late", time.monotonic() + 0.01)
    cancelled = worker.submit("a", "cancelled", FAR)
    kept = worker.submit("a", "kept", FAR)
    assert cancelled.cancel()
    time.sleep(0.02)
    work.let_go.set()
    assert kept.result(60) == "a kept"
    with pytest.raises(DeadlineError):
        late.result(60)
    assert work.batches[1:] == [("a", ["kept"])]
    assert worker.close(60)


def test_what_could_not_be_done_in_time_is_refused_at_once_but_never_for_good() -> None:
    begun = threading.Event()

    def slow(_kind: str, payloads: Sequence[Any]) -> Sequence[Any]:
        begun.set()
        time.sleep(0.3)
        return payloads

    worker = Worker(slow, queue=10, batch=1)
    assert worker.submit("a", 1, FAR).result(60) == 1
    begun.clear()
    running_one = worker.submit("a", 2, FAR)
    assert begun.wait(60)
    with pytest.raises(OverloadedError, match="before its deadline"):
        worker.submit("a", 3, time.monotonic() + 0.01)
    assert running_one.result(60) == 2
    # Nothing is before it now: it is let in, though jobs took longer than it has.
    while True:
        try:
            last = worker.submit("a", 4, time.monotonic() + 0.2)
            break
        except OverloadedError:
            time.sleep(0.01)
    assert last.result(60) == 4
    assert worker.close(60)


def test_closing_finishes_what_was_taken_on_and_takes_on_nothing_more() -> None:
    worker, work, first = held()
    waiting = [worker.submit("a", number, FAR) for number in range(5)]
    ended: list[bool] = []
    closing = threading.Thread(target=lambda: ended.append(worker.close(60)))
    closing.start()
    while True:
        try:
            worker.submit("a", "more", FAR)
        except OverloadedError:
            break
        time.sleep(0.001)
    work.let_go.set()
    closing.join(60)
    assert ended == [True]
    assert not worker.alive
    assert [future.result() for future in (first, *waiting)][:6] == ["a first", *(f"a {n}" for n in range(5))]


def same(one: Any, other: Any) -> bool:
    """Equal but for ids and the last digits of scores."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one if k not in ("id", "created"))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-4
    return bool(one == other)


def test_batched_answers_are_those_of_one_by_one(index: Path, models: tuple[str, str]) -> None:
    questions = [question.text for question in almanac.questions("test")[:12]]
    texts = [document.text for document in almanac.documents()[:5]]
    asked = [("/v1/search", {"query": text, "top_k": 3 + n}) for n, text in enumerate(questions)]
    asked += [("/v1/answer", {"question": text, "generator_weight": 0.2}) for text in questions]
    asked += [("/v1/rerank", {"query": text, "documents": texts[: 1 + n % 5]}) for n, text in enumerate(questions)]
    pipeline = {"cross_encoder": models[0], "generator": models[1], "candidates": 10}
    with running(opened(index, **pipeline), {"batch": 1}) as (url, _):
        alone = [Client(url).post(*each) for each in asked]
    with running(opened(index, **pipeline)) as (url, service):
        client = Client(url)
        # Three are enough to keep the thread busy while the others gather.
        together = at_once([lambda each=each: client.post(*each) for each in asked])
        text = service.metrics.text().decode()
    sizes = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if "retgen_batch_jobs" in line[:18]}
    batches = sum(value for name, value in sizes.items() if name.startswith("retgen_batch_jobs_count"))
    assert batches < len(asked), "nothing was batched"
    for one, other in zip(alone, together, strict=True):
        assert same(one, other)
