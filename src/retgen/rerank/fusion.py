"""Several scores of one candidate as one: how scores are brought to a scale, weighed, and runs laid side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from retgen.errors import MismatchError, UsageError
from retgen.types import FloatArray, Run

SCALES = ("log_softmax", "z", "raw")
"""How a query's scores are scaled before they are weighed; see `scaled`."""


def log_softmax(scores: FloatArray) -> FloatArray:
    """A query's scores as log-probabilities over its candidates, in fp64.

    Args:
        scores: one query's, shape (candidates,); may be empty.

    Returns:
        Shape (candidates,), ≤ 0; the scores less one constant, so that their order stays.

    Example:
        >>> np.exp(log_softmax(np.array([1.0, 1.0, 1.0, 1.0]))).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        return values.copy()
    # A model that overflows gives infinities; who ranks by the result names them, a warning here would not.
    with np.errstate(invalid="ignore"):
        lowered = values - values.max()
        return np.asarray(lowered - np.log(np.exp(lowered).sum()), dtype=np.float64)


def standardised(scores: FloatArray) -> FloatArray:
    """A query's scores with mean 0 and standard deviation 1 over its candidates; all 0 where they are equal.

    Args:
        scores: one query's, shape (candidates,); may be empty.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        return values.copy()
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 1e-9 else 1.0), dtype=np.float64)


def scaled(scores: FloatArray, scale: str) -> FloatArray:
    """A query's scores of one component on a scale, ready to be weighed.

    Args:
        scores: shape (candidates,). NaN where the component knows no score of a candidate.
        scale: ``log_softmax`` (Eq. 3 of JPR), ``z`` (`standardised`) or ``raw``. ``log_softmax`` and ``raw`` give the
            same order within a query, but not the same values across queries.

    Returns:
        Shape (candidates,). A candidate without a score has the lowest of the query's, or 0 where none has one.

    Raises:
        UsageError: another scale, or ``log_softmax`` where a candidate has no score: probabilities need all of them.
    """
    if scale not in SCALES:
        raise UsageError(f"unknown scale {scale!r} of scores", mend=f"Choose one of {', '.join(SCALES)}")
    known = ~np.isnan(scores)
    if not known.all():
        if scale == "log_softmax":
            raise UsageError(
                f"{int((~known).sum())} of {len(scores)} candidates have no score, and a softmax needs every one",
                mend="Score every candidate with both parts, or fuse with the scale z or raw",
            )
        whole = np.zeros(len(scores), dtype=np.float64)
        if known.any():
            found = scaled(scores[known], scale)
            whole[:] = found.min()
            whole[known] = found
        return whole
    if scale == "log_softmax":
        return log_softmax(scores)
    return standardised(scores) if scale == "z" else np.array(scores, dtype=np.float64)


def weighted(columns: Sequence[FloatArray], weights: Sequence[float | FloatArray]) -> FloatArray:
    """The weighted sum of scaled columns, added from left to right.

    Everything that weighs scores does so here: the same numbers give the same ties, bit for bit.

    Args:
        columns: each of shape (candidates,).
        weights: one for each column; or of shape (points, 1) each, to weigh at many points at once.

    Returns:
        Shape (candidates,), or (points, candidates).
    """
    total = np.asarray(weights[0] * columns[0], dtype=np.float64)
    for column, weight in zip(columns[1:], weights[1:], strict=True):
        total = total + weight * column
    return total


def combine(
    run: Run, weights: Mapping[str, float], *, scale: str = "z", name: str = "fused", k: int | None = None
) -> Run:
    """A run in the order of the weighted sum of its components; no model is asked.

    Args:
        run: carries the components; ties keep its order.
        weights: component → weight, 0 or more.
        scale: of every component within a query; see `scaled`.
        name: of the sum among the components of the result, which keeps the others.
        k: keep the best so many of every query.

    Raises:
        UsageError: no weights, one below 0 or not a number, all 0, or a component that the run does not carry.

    Reference:
        Fox and Shaw, "Combination of Multiple Searches", TREC 1994 (weighted CombSUM).

    Example:
        >>> runs = {"words": Run.from_dict({"q": {"a": 9.0, "b": 8.0}}), "sense": Run.from_dict({"q": {"b": 1.0}})}
        >>> combine(join_runs(runs), {"words": 0.2, "sense": 0.8}).doc_ids("q")
        ['a', 'b']
    """
    check_weights(weights)
    require_components(run, list(weights))
    scores = [
        weighted([scaled(column, scale) for column in columns_of(run, query_id, list(weights))], list(weights.values()))
        for query_id in run.query_ids
    ]
    kept = {
        old: [run.scores(query_id, old) for query_id in run.query_ids] for old in run.component_names if old != name
    }
    made = Run(
        run.query_ids,
        [run.doc_ids(query_id) for query_id in run.query_ids],
        scores,
        components={**kept, name: scores},
        fingerprint=run.fingerprint,
    )
    return made if k is None else made.top(k)


def fuse(first: Run, second: Run, weight: float, k: int = 100, *, scale: str = "z") -> Run:
    """Each query's documents by ``(1 − weight) · scaled(first) + weight · scaled(second)``.

    Scores are scaled within a query over what a run itself found; a document that a run lacks has that run's lowest
    score there. Ties keep the first run's order.

    Args:
        first: a run.
        second: a run of the same queries.
        weight: of the second, 0 to 1.
        k: most documents of a query.
        scale: ``z`` or ``raw``.

    Raises:
        UsageError: a weight outside [0, 1], or the second run lacks a query.
    """
    check_fraction(weight, "a fusion weight")
    _same_queries({"first": first, "second": second})
    ids: list[list[str]] = []
    scores: list[FloatArray] = []
    for query_id in first.query_ids:
        union = list(dict.fromkeys([*first.doc_ids(query_id), *second.doc_ids(query_id)]))
        values = weighted(
            [_over(union, query_id, first, scale), _over(union, query_id, second, scale)], [1 - weight, weight]
        )
        order = np.argsort(-values, kind="stable")[:k]
        ids.append([union[int(i)] for i in order])
        scores.append(values[order])
    return Run(first.query_ids, ids, scores, fingerprint=first.fingerprint)


def join_runs(runs: Mapping[str, Run]) -> Run:
    """Runs of the same queries side by side: every document that one of them found, with each run's score.

    Args:
        runs: component → run whose scores it is.

    Returns:
        A run of the first one's queries, its documents first, then what the others add; NaN in a component where that
        run lacks the document. Its scores are ranks turned round (−1, −2, …): weigh the components with `combine`.

    Raises:
        UsageError: no runs, or they are not over the same queries.
        MismatchError: they come from different corpora.
    """
    if not runs:
        raise UsageError("there are no runs to join")
    names, parts = list(runs), list(runs.values())
    fingerprints = {part.fingerprint for part in parts if part.fingerprint is not None}
    if len(fingerprints) > 1:
        raise MismatchError("these runs come from different corpora", mend="Search the same corpus for all of them")
    _same_queries(runs)
    ids: list[list[str]] = []
    components: dict[str, list[FloatArray]] = {name: [] for name in names}
    for query_id in parts[0].query_ids:
        union = list(dict.fromkeys(doc_id for part in parts for doc_id in part.doc_ids(query_id)))
        ids.append(union)
        for name, part in zip(names, parts, strict=True):
            own = dict(zip(part.doc_ids(query_id), part.scores(query_id).tolist(), strict=True))
            components[name].append(np.array([own.get(doc_id, math.nan) for doc_id in union], dtype=np.float64))
    return Run(
        parts[0].query_ids,
        ids,
        [-np.arange(1.0, len(row) + 1) for row in ids],
        components=components,
        fingerprint=fingerprints.pop() if fingerprints else None,
        presorted=True,
    )


def columns_of(run: Run, query_id: str, components: Sequence[str]) -> list[FloatArray]:
    """A query's raw scores of each component in rank order; those of a run without any hit are empty."""
    if not run.doc_ids(query_id):
        return [np.zeros(0, dtype=np.float64) for _ in components]
    return [run.scores(query_id, name) for name in components]


def require_components(run: Run, names: Sequence[str]) -> None:
    """Refuse a run that lacks a component; a run without any hit lacks none.

    Raises:
        UsageError: it does.
    """
    lacking = [name for name in names if name not in run.component_names]
    if lacking and any(run.doc_ids(query_id) for query_id in run.query_ids):
        carried = f"it carries {', '.join(run.component_names)}" if run.component_names else "it carries none"
        raise UsageError(
            f"the run has no component {lacking[0]!r}; {carried}",
            mend="Re-rank with both parts first, and keep the .parquet beside the run: it holds the components",
        )


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that cannot order anything.

    Raises:
        UsageError: none at all, one below 0 or not finite, or all 0.
    """
    if not weights:
        raise UsageError("there are no weights", mend="Give each component its weight")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"the weight of {name!r} must be a number of at least 0; got {weight}")
    if not any(weights.values()):
        raise UsageError("every weight is 0", mend="Give at least one component a weight above 0")


def check_fraction(value: float, what: str) -> None:
    """Refuse a number outside [0, 1], NaN included.

    Raises:
        UsageError: it is.
    """
    if not 0 <= value <= 1:
        raise UsageError(f"{what} lies between 0 and 1, not at {value}")


def _same_queries(runs: Mapping[str, Run]) -> None:
    names = list(runs)
    for name in names[1:]:
        odd = sorted(set(runs[names[0]].query_ids) ^ set(runs[name].query_ids))
        if odd:
            raise UsageError(
                f"the runs {names[0]!r} and {name!r} are not over the same queries; {len(odd)} stand in one of them "
                f"only, the first {odd[0]!r}",
                mend="Make all runs over the same queries; a query without hits has an empty list",
            )


def _over(union: Sequence[str], query_id: str, run: Run, scale: str) -> FloatArray:
    """A run's scores, scaled over what it found, of each document of the union; its lowest where it lacks one."""
    values = scaled(run.scores(query_id), scale)
    own = dict(zip(run.doc_ids(query_id), values.tolist(), strict=True))
    lowest = min(own.values(), default=0.0)
    return np.array([own.get(doc_id, lowest) for doc_id in union], dtype=np.float64)
