"""What the server counts, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Callable

from retgen.errors import MissingExtraError

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.process_collector import ProcessCollector
except ImportError as error:
    raise MissingExtraError("prometheus_client", "serve") from error

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_JOBS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server; every server has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "retgen_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "retgen_request_seconds", "From request to response.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.open = Gauge("retgen_requests_open", "Requests being answered.", registry=registry)
        self.batch_jobs = Histogram(
            "retgen_batch_jobs", "Requests in a batch of the models.", ["kind"], buckets=_JOBS, registry=registry
        )
        self.batch_seconds = Histogram(
            "retgen_batch_seconds", "Seconds a batch took.", ["kind"], buckets=_SECONDS, registry=registry
        )
        self.wait_seconds = Histogram(
            "retgen_wait_seconds", "Longest wait in the queue of a batch's requests.", ["kind"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.waiting = Gauge("retgen_queue_jobs", "Requests that wait for the models.", registry=registry)
        self.documents = Gauge("retgen_documents", "Documents in the index.", registry=registry)

    def watch(self, waiting: Callable[[], float], documents: Callable[[], float]) -> None:
        """Ask for these whenever the metrics are read."""
        self.waiting.set_function(waiting)
        self.documents.set_function(documents)

    def observe_batch(self, kind: str, jobs: int, seconds: float, waited: float) -> None:
        """Count a batch; see `retgen.server.batching.Observe`."""
        self.batch_jobs.labels(kind).observe(jobs)
        self.batch_seconds.labels(kind).observe(seconds)
        self.wait_seconds.labels(kind).observe(waited)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
