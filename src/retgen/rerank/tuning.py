"""Choosing weights on dev questions: the curve of a measure over λ, its best point, and how sure that is.

Nothing is re-ranked here: the run carries the parts' scores, and each weight is only another order of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.evaluate import Interval, bootstrap_difference, bootstrap_mean, evaluate_run, parse_measure
from retgen.rerank.fusion import check_weights, columns_of, require_components, scaled, weighted
from retgen.types import FloatArray, Qrels, Run

_MOST_POINTS = 20_000
_SAME = 1e-12  # means of equal values may differ in the last bit


def evenly(step: float) -> tuple[float, ...]:
    """0, ``step``, …, 1.

    Raises:
        UsageError: the step does not divide 1 into equal parts.

    Example:
        >>> evenly(0.25)
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    parts = round(1 / step) if math.isfinite(step) and 0 < step <= 1 else 0
    if parts < 1 or abs(parts * step - 1) > 1e-6:
        raise UsageError(f"the step {step} does not divide 1 into equal parts", mend="For example 0.05, 0.1 or 0.25")
    return tuple(part / parts for part in range(parts + 1))


WEIGHTS = evenly(0.05)
"""0, 0.05, …, 1."""


@dataclass(frozen=True)
class Tuning:
    """A measure at every weight that was tried, and the weight to take.

    Args:
        measure: what was measured, e.g. ``RR@10``.
        components: whose scores were weighed.
        scale: how they were scaled; see `retgen.rerank.fusion.scaled`.
        points: the weights tried, shape (points, components); each row sums to 1.
        values: the measure's mean at each point, shape (points,).
        per_question: the measure's values, shape (points, questions).
        question_ids: the judged questions, all of them.
        chosen: the row of ``points`` to take.
        interval: of the value there, by bootstrap over questions. It holds for these weights on questions like these;
            that they were chosen on the same questions makes the value a little too good: report another split's.
        alone: component → its own value.
        gains: component → best value − its own value, with the bootstrap interval over paired questions.
    """

    measure: str
    components: tuple[str, ...]
    scale: str
    points: FloatArray = field(repr=False)
    values: FloatArray = field(repr=False)
    per_question: FloatArray = field(repr=False)
    question_ids: tuple[str, ...] = field(repr=False)
    chosen: int
    interval: Interval
    alone: dict[str, float]
    gains: dict[str, Interval]

    @property
    def best(self) -> dict[str, float]:
        """Component → its weight at the point to take; they sum to 1."""
        return dict(zip(self.components, map(float, self.points[self.chosen]), strict=True))

    @property
    def value(self) -> float:
        """The measure there."""
        return float(self.values[self.chosen])

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(weight of the last component, value), by rising weight: λ and its value where there are two components."""
        order = np.argsort(self.points[:, -1], kind="stable")
        return [(float(self.points[i, -1]), float(self.values[i])) for i in order]

    @property
    def generator_weight(self) -> float:
        """The last component's weight at the point to take: λ of Eq. 3 where the second component is the generator."""
        return float(self.points[self.chosen, -1])

    def to_json(self) -> dict[str, object]:
        """Everything but the values per question, ready for ``json.dumps``."""
        return {
            "measure": self.measure,
            "components": list(self.components),
            "scale": self.scale,
            "questions": len(self.question_ids),
            "weights": self.best,
            "generator_weight": self.generator_weight,
            "value": self.value,
            "interval": _ends(self.interval),
            "alone": self.alone,
            "gains": {name: {"estimate": gain.estimate, **_ends(gain)} for name, gain in self.gains.items()},
            "curve": [
                {"weights": dict(zip(self.components, map(float, row), strict=True)), "value": float(value)}
                for row, value in zip(self.points, self.values, strict=True)
            ],
        }


def tune(
    run: Run,
    qrels: Qrels,
    measure: str = "RR@10",
    first: str = "cross_encoder",
    second: str = "generator",
    weights: Sequence[float] = WEIGHTS,
    *,
    scale: str = "log_softmax",
    seed: int = 0,
) -> Tuning:
    """The curve of a measure over λ = weight of ``second``, and its best point.

    Every value equals `evaluate_run` of `joint_scores` at that weight. Among equal bests the one nearest to 0.5 is
    taken, then the smaller: the middle of a plateau is the safer choice.

    Args:
        run: carries both components for every candidate, e.g. from `JointReranker.rerank` on dev questions.
        qrels: judgements of the dev questions. All of them count, also those the run lacks (as 0).
        measure: in the ir_measures grammar.
        first: the component of p(passage | query).
        second: the component of p(query | passage).
        weights: the λ to try. 0 and 1, the parts alone, are added where they are missing.
        scale: ``log_softmax`` is Eq. 3; ``raw`` gives the same order; ``z`` is the scale of `fuse`.
        seed: of the bootstrap.

    Raises:
        UsageError: a weight outside [0, 1], a component that the run lacks, an unknown measure, or no questions.

    Reference:
        "Joint Passage Re-ranking", λ chosen on dev (Table 1).
    """
    if first == second:
        raise UsageError(f"the component {first!r} cannot be weighed against itself", mend="Name two components")
    for weight in weights:
        if not 0 <= weight <= 1:
            raise UsageError(f"a weight λ lies between 0 and 1, not at {weight}")
    tried = sorted({0.0, 1.0, *map(float, weights)})
    points = np.array([[1 - weight, weight] for weight in tried], dtype=np.float64)
    return _tuned(run, qrels, measure, (first, second), points, scale, seed)


def tune_weights(
    run: Run,
    qrels: Qrels,
    components: Sequence[str],
    measure: str = "RR@10",
    *,
    step: float = 0.05,
    scale: str = "z",
    seed: int = 0,
) -> Tuning:
    """The best weights of two or more components, by trying every point of a grid over the simplex.

    Only the proportions of weights matter to an order, so that they may sum to 1: 21 points for two components at a
    step of 0.05, 231 for three, 1,771 for four. Among equal bests the one nearest to equal weights is taken.

    Args:
        run: carries the components, e.g. ``bm25``, ``cross_encoder`` and ``generator``.
        qrels: judgements of the dev questions.
        components: two or more names.
        measure: in the ir_measures grammar.
        step: between neighbouring points; 1 divided by a whole number.
        scale: ``z`` suits components of different kinds. With ``raw`` a component of large numbers needs a small
            weight, and the grid may be too coarse for it.
        seed: of the bootstrap.

    Raises:
        UsageError: fewer than two components, one named twice or lacking in the run, or too many points.
    """
    names = tuple(components)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"weights need two or more different components; got {', '.join(names) or 'none'}")
    parts = len(evenly(step)) - 1
    count = math.comb(parts + len(names) - 1, len(names) - 1)
    if count > _MOST_POINTS:
        raise UsageError(
            f"{len(names)} components at a step of {step} are {count:,} points, more than {_MOST_POINTS:,}",
            mend="Take a wider step or fewer components",
        )
    return _tuned(run, qrels, measure, names, _simplex(parts, len(names)), scale, seed)


def measure_weights(
    run: Run, qrels: Qrels, components: Sequence[str], points: npt.ArrayLike, measure: str, *, scale: str
) -> FloatArray:
    """A measure's value for every question at every weighting, shape (points, questions in the order of the qrels).

    Equals `evaluate_run` of `combine` at each point. A value depends on nothing but the grades in rank order down to
    the measure's cutoff, and few weights change those: each sequence that occurs is measured once.

    Args:
        run: carries the components.
        qrels: judgements; questions that the run lacks, or has no document for, have the value 0.
        components: names.
        points: weights, shape (points, components).
        measure: in the ir_measures grammar.
        scale: of each component within a query.
    """
    grid = np.asarray(points, dtype=np.float64)
    cutoff: int | None = parse_measure(measure).params.get("cutoff")
    require_components(run, components)
    for row in grid:
        check_weights(dict(zip(components, map(float, row), strict=True)))
    orders: dict[str, list[str]] = {}
    judged: dict[str, Mapping[str, int]] = {}
    places: list[tuple[int, npt.NDArray[np.int64], list[str]]] = []
    for number, (question_id, grades) in enumerate(qrels.items()):
        doc_ids = run.doc_ids(question_id) if question_id in run else []
        if not doc_ids or not grades:
            continue
        columns = [scaled(column, scale) for column in columns_of(run, question_id, components)]
        scores = weighted(columns, [grid[:, i, None] for i in range(len(columns))])
        order = np.argsort(-scores, axis=1, kind="stable")
        if cutoff is not None:
            order = order[:, :cutoff]
        # Measures tell documents apart by nothing but their grades, and whether they have one.
        marks = np.array([max(grades[doc_id], 0) if doc_id in grades else -1 for doc_id in doc_ids], dtype=np.int64)
        sequences, where = np.unique(marks[order], axis=0, return_inverse=True)
        first_rows = np.zeros(len(sequences), dtype=np.int64)
        flat = np.asarray(where).reshape(-1)
        first_rows[flat[::-1]] = np.arange(len(grid))[::-1]
        keys = []
        for row in first_rows:
            key = str(len(orders))  # a plain number: some of the measures' programs know no other names
            orders[key] = [doc_ids[int(i)] for i in order[row]]
            judged[key] = grades
            keys.append(key)
        places.append((number, flat, keys))
    values = np.zeros((len(grid), len(qrels)), dtype=np.float64)
    if orders:
        ranks = Run(list(orders), list(orders.values()), [-np.arange(1.0, len(row) + 1) for row in orders.values()])
        found = evaluate_run(ranks, judged, [measure]).per_query[measure]
        for number, flat, keys in places:
            values[:, number] = np.array([found[key] for key in keys])[flat]
    else:
        evaluate_run(Run([], [], []), qrels, [measure])  # an unknown measure or no questions: the errors are its
    return values


def _simplex(parts: int, components: int) -> FloatArray:
    """Every way to give ``components`` their shares of ``parts``, divided by ``parts``."""
    rows = []
    for bars in itertools.combinations(range(parts + components - 1), components - 1):
        ends = (-1, *bars, parts + components - 1)
        rows.append([(after - before - 1) / parts for before, after in itertools.pairwise(ends)])
    return np.array(rows, dtype=np.float64)


def _tuned(
    run: Run, qrels: Qrels, measure: str, components: tuple[str, ...], points: FloatArray, scale: str, seed: int
) -> Tuning:
    per_question = measure_weights(run, qrels, components, points, measure, scale=scale)
    values = per_question.mean(axis=1)
    equal = np.flatnonzero(values >= values.max() - _SAME)
    distance = np.abs(points[equal] - 1 / len(components)).max(axis=1)
    # Rounded, so that 0.45 and 0.55 are equally far from 0.5; then the smaller weight of the last component.
    chosen = int(min(zip(np.round(distance, 9), points[equal, -1], equal, strict=True))[2])
    ends = {name: int(np.flatnonzero(points[:, i] == 1)[0]) for i, name in enumerate(components)}
    best = per_question[chosen]
    return Tuning(
        measure=measure,
        components=components,
        scale=scale,
        points=points,
        values=values,
        per_question=per_question,
        question_ids=tuple(qrels),
        chosen=chosen,
        interval=bootstrap_mean(best, seed=seed),
        alone={name: float(values[row]) for name, row in ends.items()},
        gains={name: bootstrap_difference(best, per_question[row], seed=seed) for name, row in ends.items()},
    )


def _ends(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high, "confidence": interval.confidence}
