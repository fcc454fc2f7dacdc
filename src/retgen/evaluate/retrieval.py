"""Retrieval measures on explicit ranks, over all queries.

Measures are named in the ir_measures grammar (``nDCG@10``, ``RR@10``, ``R@10``, ``Success@20``) and computed by that
package. This module decides what it is given: ranks instead of scores, and every query instead of the returned ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retgen.errors import UsageError
from retgen.types import Qrels, Run

COMMON_MEASURES = ("nDCG@10", "RR@10", "MRR@10", "R@1", "R@10", "R@100", "Success@1", "Success@20", "AP", "P@10")
"""What most tables of the field show; an error about a measure lists them."""


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """What a run scored. Values lie in [0, 1], apart from the few measures of the grammar that count (``NumRet``).

    Args:
        means: measure, as it was asked for → mean over the queries.
        per_query: measure → query id → value, in the order of the queries.
        num_queries: queries in the average.
        unjudged: queries of the run that were left out because they have no judgements.
        without_hits: queries in the average for which the run has no document: they count 0.
        without_relevant: queries in the average that have no document of grade ≥ 1: they cannot score above 0.
    """

    means: dict[str, float]
    per_query: dict[str, dict[str, float]] = field(repr=False)
    num_queries: int
    unjudged: int
    without_hits: int
    without_relevant: int


def parse_measure(name: str) -> Any:
    """The ir_measures object of a measure's name.

    Args:
        name: in the ir_measures grammar, e.g. ``"nDCG@10"`` or ``"R(rel=2)@100"``. ``MRR@10`` is ``RR@10``.

    Returns:
        An ``ir_measures.Measure`` that some installed provider can compute.

    Raises:
        UsageError: no such measure, a parameter it does not take, or no installed package computes it.

    Example:
        >>> parse_measure("MRR@10")
        RR@10
    """
    ir_measures = _ir_measures()

    mend = f"Common measures: {', '.join(COMMON_MEASURES)}; the grammar is Name(parameter=value)@cutoff"
    try:
        measure = ir_measures.parse_measure(name.strip())
        measure.validate_params()
    # The parser evaluates the name's syntax tree, so that a typo surfaces as any of these; asserts check parameters.
    except (ValueError, NameError, SyntaxError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise UsageError(f"unknown retrieval measure {name!r}", mend=mend) from error
    cutoff = measure.params.get("cutoff")
    if cutoff is not None and cutoff < 1:
        raise UsageError(f"the cutoff of the retrieval measure {name!r} must be at least 1", mend=mend)
    if not ir_measures.DefaultPipeline.supports(measure):
        raise UsageError(f"no installed package computes the retrieval measure {name!r}", mend=mend)
    return measure


def evaluate_run(
    run: Run, qrels: Qrels, measures: Sequence[str], *, query_ids: Sequence[str] | None = None
) -> RetrievalResult:
    """Scores a run against judgements.

    The provider is given the score −rank, so that ties in the run's scores are broken as the run shows them and a
    scorer that gives every document the same score gains nothing. Queries that the run lacks, or has no hits for,
    count 0. Grades below 0 (junk pages in some TREC collections) count as 0.

    Args:
        run: ranked documents.
        qrels: query id → document id → grade; relevant from 1 on, unless the measure says otherwise (``R(rel=2)@10``).
        measures: names in the ir_measures grammar; ``MRR@10`` is accepted for ``RR@10``.
        query_ids: the queries of the average. All queries of the qrels by default. A query listed here that has no
            judgements counts 0: nothing relevant can be found for it.

    Returns:
        Means and values per query, keyed by the names as they were asked for.

    Raises:
        UsageError: no measures, an unknown one, no queries, or a query listed twice.

    Reference:
        MacAvaney et al., "Streamlining Evaluation with ir-measures", ECIR 2022.

    Example:
        >>> run = Run.from_dict({"q1": {"a": 0.5, "b": 0.5}, "q2": {}})
        >>> result = evaluate_run(run, {"q1": {"b": 1}, "q2": {"a": 1}}, ["MRR@10", "R@10"])
        >>> result.means
        {'MRR@10': 0.25, 'R@10': 0.5}
    """
    if not measures:
        raise UsageError("no retrieval measures were given", mend=f"Name some, e.g. {', '.join(COMMON_MEASURES[:3])}")
    parsed = {name: parse_measure(name) for name in measures}
    queries = list(qrels if query_ids is None else query_ids)
    if not queries:
        raise UsageError("there are no queries to average over", mend="Check that the judgements are not empty")
    if len(set(queries)) != len(queries):
        raise UsageError("a query id occurs twice in the list of queries to average over")

    grades = {
        query_id: {doc_id: max(int(g), 0) for doc_id, g in qrels[query_id].items()}
        for query_id in queries
        if query_id in qrels
    }
    in_run = set(run.query_ids)
    ranks: dict[str, dict[str, float]] = {}
    without_hits = 0
    for query_id in queries:
        doc_ids = run.doc_ids(query_id) if query_id in in_run else []
        if not doc_ids:
            without_hits += 1
        elif grades.get(query_id):
            ranks[query_id] = {doc_id: -float(rank) for rank, doc_id in enumerate(doc_ids, start=1)}

    values = _calculate(set(parsed.values()), {query_id: grades[query_id] for query_id in ranks}, ranks)
    per_query = {
        name: {query_id: values.get((measure, query_id), 0.0) for query_id in queries}
        for name, measure in parsed.items()
    }
    return RetrievalResult(
        means={name: sum(scores.values()) / len(queries) for name, scores in per_query.items()},
        per_query=per_query,
        num_queries=len(queries),
        unjudged=sum(1 for query_id in run.query_ids if not qrels.get(query_id)),
        without_hits=without_hits,
        without_relevant=sum(1 for query_id in queries if not any(g >= 1 for g in grades.get(query_id, {}).values())),
    )


def _calculate(
    measures: set[Any], grades: Mapping[str, Mapping[str, int]], ranks: Mapping[str, Mapping[str, float]]
) -> dict[tuple[Any, str], float]:
    if not ranks:
        return {}
    return {
        (metric.measure, metric.query_id): float(metric.value)
        for metric in _ir_measures().iter_calc(sorted(measures, key=repr), grades, ranks)
    }


def _ir_measures() -> Any:
    return importlib.import_module("ir_measures")  # takes a tenth of a second: only who measures pays for it
