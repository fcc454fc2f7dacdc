"""What every re-ranker that scores (query, passage) pairs shares: its candidates, checked, and its scores as a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retgen.errors import ArtefactError, UnknownDocumentError, UsageError
from retgen.pipeline import Component, as_queries, check_fingerprint
from retgen.types import Document, DocumentSource, FloatArray, Query, Run

Progress = Callable[[int, int], None]
"""Called with (pairs scored, pairs in all)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The pairs of a block of queries, each passage once.

    Args:
        queries: in the order of the run that is to come.
        passages: every passage that is a candidate of some query, once, in the order of its first appearance.
        rows: for each query, the numbers of its candidates in ``passages``, in the order of the given run.
    """

    queries: tuple[Query, ...]
    passages: tuple[Document, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(query number, passage number) of every candidate, query by query."""
        return [(number, passage) for number, row in enumerate(self.rows) for passage in row]


class CandidateReranker(Component, ABC):
    """A Reranker that gives every candidate a score of its own, whatever the others are.

    A subclass names its ``component`` and writes `score_pairs`; here are the checks and the run.
    """

    component: str

    @abstractmethod
    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        """One score for each of ``candidates.pairs``, in their order; higher is better."""

    def rerank(
        self,
        queries: Sequence[Query],
        run: Run,
        documents: DocumentSource,
        k: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> Run:
        """The run's documents by this re-ranker's score; ties keep the run's order.

        Args:
            queries: with unique ids, each in the run.
            run: the candidates. Its components ride along; a run without any has its scores kept as ``first_stage``.
            documents: the corpus of the run.
            k: keep the best so many of every query.
            progress: called with (pairs scored, pairs in all).

        Returns:
            A run of these queries, those without candidates included, with the score also as a component.

        Raises:
            UsageError: a query id occurs twice, or the run lacks a query.
            UnknownDocumentError: a candidate is not among the documents.
            MismatchError: the run comes from another corpus.
            ArtefactError: the model gave a score that is not a number.
        """
        if k is not None and k < 1:
            raise UsageError(f"k must be at least 1; got {k}")
        candidates = collect(queries, run, documents)
        scores = self.score_pairs(candidates, progress) if candidates.pairs else np.zeros(0)
        return ranked(candidates, run, {self.component: scores}, self.component, k)


def collect(queries: Sequence[Query], run: Run, documents: DocumentSource) -> Candidates:
    """The candidates of these queries, with the errors that `CandidateReranker.rerank` names."""
    asked = as_queries(queries)
    check_fingerprint(run.fingerprint, documents, "this run")
    missing = [query.id for query in asked if query.id not in run]
    if missing:
        raise UsageError(
            f"the run lacks {len(missing)} of the {len(asked)} queries, the first {missing[0]!r}",
            mend="Give a run over these queries; a query without hits has an empty list in it",
        )
    numbers: dict[str, int] = {}
    passages: list[Document] = []
    rows: list[tuple[int, ...]] = []
    for query in asked:
        row = []
        for doc_id in run.doc_ids(query.id):
            if doc_id not in numbers:
                numbers[doc_id] = len(passages)
                passages.append(_document(documents, doc_id))
            row.append(numbers[doc_id])
        rows.append(tuple(row))
    return Candidates(tuple(asked), tuple(passages), tuple(rows))


def ranked(
    candidates: Candidates,
    run: Run,
    scores: dict[str, FloatArray],
    by: str,
    k: int | None = None,
) -> Run:
    """The candidates as a run.

    Args:
        candidates: of `collect`.
        run: they came from; its components ride along.
        scores: component → one score for each of ``candidates.pairs``.
        by: the component that orders.
        k: keep the best so many of every query.

    Raises:
        ArtefactError: a score is not a number.
    """
    for name, values in scores.items():
        _check_numbers(candidates, name, values)
    ids = [query.id for query in candidates.queries]
    ends = np.cumsum([len(row) for row in candidates.rows], dtype=np.int64)
    new = {name: np.split(np.asarray(values, dtype=np.float64), ends[:-1]) for name, values in scores.items()}
    if not ids:
        new = {name: [] for name in scores}
    before = run.component_names or ("first_stage",)
    old = {
        name: [run.scores(query_id, name if run.component_names else None) for query_id in ids]
        for name in before
        if name not in new
    }
    made = Run(
        ids,
        [run.doc_ids(query_id) for query_id in ids],
        new[by],
        components={**old, **new},
        fingerprint=run.fingerprint,
    )
    return made if k is None else made.top(k)


def _document(documents: DocumentSource, doc_id: str) -> Document:
    try:
        return documents[doc_id]
    except UnknownDocumentError:
        raise
    except KeyError as error:
        raise UnknownDocumentError(doc_id) from error


def _check_numbers(candidates: Candidates, name: str, values: FloatArray) -> None:
    pairs = candidates.pairs
    if len(values) != len(pairs):
        raise UsageError(f"{name} gave {len(values)} scores for {len(pairs)} candidates")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        query, passage = pairs[int(wrong[0])]
        raise ArtefactError(
            f"{name} gave {len(wrong)} of {len(pairs)} candidates a score that is not a number, first "
            f"{candidates.passages[passage].id!r} for query {candidates.queries[query].id!r}",
            mend="The model's weights are broken, or its numbers overflow: load it again in fp32",
        )
