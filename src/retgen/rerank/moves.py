"""What a re-ranker moved for one query, and why: ranks before and after, and what each part gave each passage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from retgen.errors import UsageError
from retgen.pipeline import Explainer
from retgen.rerank.candidates import Progress
from retgen.rerank.fusion import columns_of, log_softmax, require_components
from retgen.rerank.joint import component_name
from retgen.types import Document, DocumentSource, Query, Run

TITLE_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Move:
    """One passage's way.

    Args:
        doc_id: whose.
        title: its title, else the beginning of its text.
        before: rank in the run that was given, from 1.
        after: rank in the new run.
        scores: component → raw score, of every component that the new run carries.
        shares: component → weight × log-softmax of its scores over all the query's candidates, ≤ 0. They sum to the
            joint score of Eq. 3.
        pulls: component → the share less its mean over the query's candidates: above 0 it pulls this passage up.
        ranks: component → the rank it alone would give, from 1; equal scores by the run's order.
        tokens: what the re-ranker's ``explain`` says: of a generator (token of the query, its log-likelihood under this
            passage), of a cross-encoder (word of the passage, what it adds to the score).
    """

    doc_id: str
    title: str
    before: int
    after: int
    scores: Mapping[str, float]
    shares: Mapping[str, float]
    pulls: Mapping[str, float]
    ranks: Mapping[str, int]
    tokens: tuple[tuple[str, float], ...] = field(default=())

    @property
    def climbed(self) -> int:
        """How many ranks it rose; below 0 where it fell."""
        return self.before - self.after

    def to_json(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return {
            "doc_id": self.doc_id,
            "title": self.title,
            "rank_before": self.before,
            "rank_after": self.after,
            "scores": dict(self.scores),
            "shares": dict(self.shares),
            "pulls": dict(self.pulls),
            "ranks": dict(self.ranks),
            "tokens": [{"token": token, "score": value} for token, value in self.tokens],
        }


@dataclass(frozen=True, slots=True)
class Moves:
    """What moved for one query.

    Args:
        query: the question.
        weights: component → its weight in the order after.
        moves: the passages shown, in their new order.
        candidates: how many the query has in all.
        k: the new ranks of interest; passages below were among the best so many before.
    """

    query: Query
    weights: Mapping[str, float]
    moves: tuple[Move, ...]
    candidates: int
    k: int

    @property
    def tokens_are_the_query_s(self) -> bool:
        """Whether every passage's tokens are the same, as those of the query are, and can stand in one table."""
        return len({tuple(token for token, _ in move.tokens) for move in self.moves if move.tokens}) == 1


def explain_moves(
    query: Query,
    before: Run,
    after: Run,
    documents: DocumentSource,
    reranker: object,
    *,
    k: int = 10,
    progress: Progress | None = None,
) -> Moves:
    """Says for one query what a re-ranker moved and why.

    Args:
        query: stands in both runs.
        before: the run that the re-ranker was given.
        after: the run that it returned, whole, with its components.
        documents: the corpus of both.
        reranker: whose work it was. Its ``weights`` (component → weight) say what to show, else its ``component``; its
            ``explain``, if it has one, gives the tokens.
        k: the best so many after, and those of the best so many before that fell out of them.
        progress: called with (passages explained, passages shown).

    Returns:
        The passages in their new order.

    Raises:
        UsageError: a run lacks the query, their candidates differ, or ``after`` lacks a component.

    Example:
        >>> from retgen.rerank.joint import joint_scores
        >>> documents = {"a": Document("a", "Oxygen is a gas."), "b": Document("b", "Iron is a metal.")}
        >>> parts = {"cross_encoder": [[0.0, 4.0]], "generator": [[-2.0, -1.0]]}
        >>> before = Run(["q"], [["a", "b"]], [[2.0, 1.0]], components=parts)
        >>> class Parts:
        ...     weights = {"cross_encoder": 0.5, "generator": 0.5}
        >>> found = explain_moves(Query("q", "what is iron?"), before, joint_scores(before), documents, Parts())
        >>> [(move.doc_id, move.before, move.after, move.climbed) for move in found.moves]
        [('b', 2, 1, 1), ('a', 1, 2, -1)]
    """
    if k < 1:
        raise UsageError(f"k must be at least 1; got {k}")
    for run in (before, after):
        if query.id not in run:
            raise UsageError(f"the run has no query {query.id!r}", mend="Name one of the run's queries")
    old, new = before.doc_ids(query.id), after.doc_ids(query.id)
    if sorted(old) != sorted(new):
        raise UsageError(
            f"the two runs have different candidates for query {query.id!r} ({len(old)} and {len(new)})",
            mend="Give the run that was re-ranked, and the whole run that came of it",
        )
    weights = _weights(reranker)
    require_components(after, list(weights))
    shares = {
        name: weights[name] * log_softmax(column)
        for name, column in zip(weights, columns_of(after, query.id, list(weights)), strict=True)
    }
    first_rank = {doc_id: rank for rank, doc_id in enumerate(old, start=1)}
    ranks = {name: _ranks(after, query.id, name, first_rank) for name in weights}
    shown = [i for i, doc_id in enumerate(new) if i < k or first_rank[doc_id] <= k]
    hits = after[query.id]
    moves = []
    for i in shown:
        document = documents[new[i]]
        moves.append(
            Move(
                doc_id=new[i],
                title=short_title(document),
                before=first_rank[new[i]],
                after=i + 1,
                scores=hits[i].components,
                shares={name: float(values[i]) for name, values in shares.items()},
                pulls={name: float(values[i] - values.mean()) for name, values in shares.items()},
                ranks={name: places[new[i]] for name, places in ranks.items()},
                tokens=reranker.explain(query, document).tokens if isinstance(reranker, Explainer) else (),
            )
        )
        if progress is not None:
            progress(len(moves), len(shown))
    return Moves(query, weights, tuple(moves), len(new), k)


def short_title(document: Document) -> str:
    """The title, else the beginning of the text, in one line of at most `TITLE_CHARACTERS`."""
    line = " ".join((document.title or document.text).split()) or document.id
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


def _weights(reranker: object) -> dict[str, float]:
    weights = getattr(reranker, "weights", None)
    if isinstance(weights, Mapping):
        return {str(name): float(weight) for name, weight in weights.items()}
    return {component_name(reranker): 1.0}


def _ranks(run: Run, query_id: str, component: str, first_rank: Mapping[str, int]) -> dict[str, int]:
    doc_ids = run.doc_ids(query_id)
    if not doc_ids:
        return {}
    scores = run.scores(query_id, component)
    places = np.array([first_rank[doc_id] for doc_id in doc_ids])
    order = np.lexsort((places, -scores))
    return {doc_ids[int(i)]: rank for rank, i in enumerate(order, start=1)}
