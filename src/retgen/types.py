"""The things that move between rooms: documents, queries, runs, judgements, answers, and the three protocols.

Plain, typed and immutable where possible. Reading and writing them is `retgen.formats`' work, measuring them
`retgen.evaluate`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError

FloatArray = npt.NDArray[np.float64]
Qrels = Mapping[str, Mapping[str, int]]
"""Judgements: query id → document id → grade (0 = judged not relevant, ≥ 1 = relevant)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A passage or document of a corpus.

    Args:
        id: unique within its corpus.
        text: the body; may be empty.
        title: may be empty.
        metadata: plain values that filters may use.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def contents(self) -> str:
        """Title and text as one field, the way flat BM25 and cross-encoders read it."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Connector:
    """A text that bridges a query and its targets (UniGen, "LLM-based Connectors Generation").

    Args:
        text: what the model reads in the query's place.
        writer: who wrote it, e.g. ``"offline:bm25-context"`` or a language model's name.
        round: 0 for the first, n for the n-th round of iterative enhancement.
    """

    text: str
    writer: str
    round: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """A question with its id; it keeps its text when its connector changes."""

    id: str
    text: str
    connector: Connector | None = None

    @property
    def input_text(self) -> str:
        """What a generative model reads: the connector where there is one, else the question."""
        return self.connector.text if self.connector is not None else self.text

    def with_connector(self, connector: Connector | None) -> Query:
        """The same query with another connector."""
        return replace(self, connector=connector)


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked document. ``rank`` starts at 1; ``components`` holds the named scores it was made of."""

    doc_id: str
    score: float
    rank: int
    components: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Triplet:
    """A question, its accepted answers and its relevant documents: what the generative rows train on."""

    query: Query
    answers: tuple[str, ...]
    doc_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one query.

    Args:
        query_id: whose answer it is.
        text: the answer; empty where none was found.
        score: log-probability (≤ 0) or the reader's own score; its class says which.
        passages: ids of documents shown beside it, best first.
        source: id of the document it was read from, or None when the model did not read one.
        details: anything else worth showing, e.g. the span's offsets.
    """

    query_id: str
    text: str
    score: float = 0.0
    passages: tuple[str, ...] = ()
    source: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document stands where it does: named component scores, and token scores where there are any."""

    query_id: str
    doc_id: str
    components: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[tuple[str, float], ...] = ()


class Run(Mapping[str, tuple[Hit, ...]]):
    """Ranked documents for a set of queries, held in columns.

    Queries without hits stay in the run. Within a query the order is the rank: the constructor sorts by falling score
    unless ``presorted``, ties keep the order they came in. Scores must not be NaN.

    Args:
        query_ids: unique ids, in the order results are shown.
        doc_ids: for each query, its documents; ids unique within a query.
        scores: for each query, as many scores; higher is better.
        components: name → for each query, as many scores.
        fingerprint: of the corpus the ids belong to, where known.
        presorted: the given order is the rank, whatever the scores say.

    Raises:
        UsageError: lengths differ, an id repeats, or a score is NaN.

    Example:
        >>> run = Run.from_dict({"q1": {"a": 1.0, "b": 2.0}, "q2": {}})
        >>> [(hit.rank, hit.doc_id) for hit in run["q1"]]
        [(1, 'b'), (2, 'a')]
        >>> len(run), run["q2"]
        (2, ())
    """

    __slots__ = ("_components", "_doc_ids", "_index", "_offsets", "_query_ids", "_scores", "fingerprint")

    def __init__(
        self,
        query_ids: Sequence[str],
        doc_ids: Sequence[Sequence[str]],
        scores: Sequence[Sequence[float] | FloatArray],
        *,
        components: Mapping[str, Sequence[Sequence[float] | FloatArray]] | None = None,
        fingerprint: str | None = None,
        presorted: bool = False,
    ) -> None:
        if not len(query_ids) == len(doc_ids) == len(scores):
            raise UsageError(
                f"a run needs as many lists of documents and scores as queries; got {len(query_ids)} queries, "
                f"{len(doc_ids)} lists of documents, {len(scores)} lists of scores"
            )
        self._query_ids = tuple(query_ids)
        self._index = {query_id: number for number, query_id in enumerate(self._query_ids)}
        if len(self._index) != len(self._query_ids):
            raise UsageError("a query id occurs twice in one run", mend="Give every query its own id")
        self.fingerprint = fingerprint
        names = tuple(components or ())
        columns: dict[str, list[FloatArray]] = {name: [] for name in names}
        kept_ids: list[str] = []
        kept_scores: list[FloatArray] = []
        offsets = np.zeros(len(self._query_ids) + 1, dtype=np.int64)
        for number, (query_id, ids, raw) in enumerate(zip(self._query_ids, doc_ids, scores, strict=True)):
            values = np.asarray(raw, dtype=np.float64)
            order = _rank_order(query_id, ids, values, presorted)
            kept_ids.extend(ids[i] for i in order)
            kept_scores.append(values[order])
            for name in names:
                column = np.asarray((components or {})[name][number], dtype=np.float64)
                if len(column) != len(ids):
                    raise UsageError(
                        f"component {name!r} of query {query_id!r} has {len(column)} scores, not {len(ids)}"
                    )
                columns[name].append(column[order])
            offsets[number + 1] = len(kept_ids)
        empty = np.zeros(0, dtype=np.float64)
        self._doc_ids = kept_ids
        self._offsets = offsets
        self._scores = np.concatenate([*kept_scores, empty])
        self._components = {name: np.concatenate([*parts, empty]) for name, parts in columns.items()}

    @classmethod
    def from_dict(cls, scores: Mapping[str, Mapping[str, float]], *, fingerprint: str | None = None) -> Run:
        """A run from query id → document id → score."""
        return cls(
            list(scores),
            [list(hits) for hits in scores.values()],
            [list(hits.values()) for hits in scores.values()],
            fingerprint=fingerprint,
        )

    @classmethod
    def from_hits(cls, hits: Mapping[str, Sequence[Hit]], *, fingerprint: str | None = None) -> Run:
        """A run from query id → hits in rank order. Components that some hits lack are NaN there."""
        names = sorted({name for row in hits.values() for hit in row for name in hit.components})
        return cls(
            list(hits),
            [[hit.doc_id for hit in row] for row in hits.values()],
            [[hit.score for hit in row] for row in hits.values()],
            components={
                name: [[hit.components.get(name, float("nan")) for hit in row] for row in hits.values()]
                for name in names
            },
            fingerprint=fingerprint,
            presorted=True,
        )

    @classmethod
    def concat(cls, runs: Iterable[Run]) -> Run:
        """Runs over disjoint queries as one, e.g. the blocks of a pipeline."""
        parts = list(runs)
        prints = {part.fingerprint for part in parts}
        if len(prints) > 1:
            raise UsageError("these runs come from different corpora and cannot be joined")
        hits: dict[str, Sequence[Hit]] = {}
        for part in parts:
            for query_id, row in part.items():
                if query_id in hits:
                    raise UsageError(f"query {query_id!r} occurs in two of the runs")
                hits[query_id] = row
        return cls.from_hits(hits, fingerprint=prints.pop() if prints else None)

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The queries, in order; those without hits included."""
        return self._query_ids

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the component scores that ride along."""
        return tuple(self._components)

    def doc_ids(self, query_id: str) -> list[str]:
        """The query's documents, best first."""
        start, stop = self._span(query_id)
        return self._doc_ids[start:stop]

    def scores(self, query_id: str, component: str | None = None) -> FloatArray:
        """The query's scores in rank order, or one component's."""
        start, stop = self._span(query_id)
        column = self._scores if component is None else self._components[component]
        return column[start:stop]

    def top(self, k: int) -> Run:
        """The first ``k`` hits of every query."""
        return Run.from_hits({query_id: row[:k] for query_id, row in self.items()}, fingerprint=self.fingerprint)

    def select(self, query_ids: Iterable[str]) -> Run:
        """The run of these queries only, in this order."""
        return Run.from_hits({query_id: self[query_id] for query_id in query_ids}, fingerprint=self.fingerprint)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Query id → document id → score, in rank order."""
        return {query_id: {hit.doc_id: hit.score for hit in row} for query_id, row in self.items()}

    def __getitem__(self, query_id: str) -> tuple[Hit, ...]:
        start, stop = self._span(query_id)
        return tuple(
            Hit(
                self._doc_ids[i],
                float(self._scores[i]),
                i - start + 1,
                {name: float(column[i]) for name, column in self._components.items()},
            )
            for i in range(start, stop)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._query_ids)

    def __len__(self) -> int:
        return len(self._query_ids)

    def __repr__(self) -> str:
        return f"Run({len(self)} queries, {len(self._doc_ids)} hits)"

    def __rshift__(self, other: object) -> object:
        return NotImplemented

    def _span(self, query_id: str) -> tuple[int, int]:
        number = self._index[query_id]
        return int(self._offsets[number]), int(self._offsets[number + 1])


def _rank_order(query_id: str, ids: Sequence[str], values: FloatArray, presorted: bool) -> npt.NDArray[np.int64]:
    if len(values) != len(ids):
        raise UsageError(f"query {query_id!r} has {len(ids)} documents and {len(values)} scores")
    if len(set(ids)) != len(ids):
        raise UsageError(f"query {query_id!r} lists a document twice")
    if np.isnan(values).any():
        raise UsageError(f"query {query_id!r} has a score that is not a number")
    if presorted:
        return np.arange(len(ids), dtype=np.int64)
    return np.argsort(-values, kind="stable").astype(np.int64)


def question_split(question_id: str) -> str:
    """The split a question belongs to: ``train``, ``dev`` or ``test`` (80/10/10), by a fixed hash of its id.

    Example:
        >>> question_split("56be4db0acb8001400a502ec")
        'train'
    """
    bucket = int(hashlib.md5(question_id.encode(), usedforsecurity=False).hexdigest(), 16) % 10
    return {8: "dev", 9: "test"}.get(bucket, "train")


class DocumentSource(Protocol):
    """Anything that gives a document for its id: a Corpus, a dict, a database."""

    def __getitem__(self, doc_id: str, /) -> Document: ...


@runtime_checkable
class Retriever(Protocol):
    """Finds documents. Returns every query, also those without hits, with at most ``k`` hits each."""

    def search(self, queries: Sequence[Query], k: int = 100) -> Run:
        """The best ``k`` documents of every query."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Orders the documents of a run anew; never adds one, and drops only those beyond ``k``."""

    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        """The run's documents in a new order; with ``k``, the best ``k`` of them."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """Answers queries, one answer each, in their order; an empty text where it has none."""

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        """One answer for every query."""
        ...


DocumentFilter = Callable[[Document], bool]
"""A metadata filter: True keeps the document."""
