"""Tuning: the values are those of evaluating each weight, and the choice among them."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from retgen.errors import UsageError
from retgen.evaluate import bootstrap_mean, evaluate_run
from retgen.rerank.fusion import combine
from retgen.rerank.joint import joint_scores
from retgen.rerank.tuning import WEIGHTS, measure_weights, tune, tune_weights
from retgen.types import Qrels, Run

MEASURES = [
    "RR@10",
    "nDCG@5",
    "Success@1",
    "R@3",
    "AP",
    "P@2",
    "RR(rel=2)",
    "Rprec",
    "Judged@5",
    "AP@4",
    "Bpref",
    "NumRet",
]


def collection(questions: int = 25, depth: int = 12, seed: int = 0, levels: int = 6) -> tuple[Run, Qrels]:
    """Candidates with three components of few levels, so that there are ties, and some odd questions."""
    chance = random.Random(seed)
    ids = [f"q{n}" for n in range(questions)]
    doc_ids = [[f"d{n}-{i}" for i in range(0 if n == 3 else 1 if n == 4 else depth)] for n in range(questions)]
    names = ("bm25", "cross_encoder", "generator")
    components = {name: [[float(chance.randrange(levels)) - 0.3 for _ in row] for row in doc_ids] for name in names}
    run = Run(ids, doc_ids, [list(range(len(row), 0, -1)) for row in doc_ids], components=components)
    qrels: dict[str, dict[str, int]] = {
        query_id: {doc_id: chance.randrange(3) for doc_id in chance.sample(row, min(4, len(row)))} | {"unfound": 1}
        for query_id, row in zip(ids, doc_ids, strict=True)
    }
    qrels["q5"] = {}
    qrels["q6"] = {"elsewhere": 2}
    qrels["absent"] = {"d0-0": 1}
    return run, qrels


@pytest.mark.parametrize("measure", MEASURES)
def test_every_value_is_that_of_evaluating_the_weighed_run(measure: str) -> None:
    run, qrels = collection()
    found = tune(run, qrels, measure)
    assert [weight for weight, _ in found.curve] == list(WEIGHTS)
    for row, (weight, value) in enumerate(found.curve):
        scored = evaluate_run(joint_scores(run, generator_weight=weight), qrels, [measure])
        assert found.per_question[row].tolist() == list(scored.per_query[measure].values())
        assert value == pytest.approx(scored.means[measure], abs=1e-12)
    assert found.question_ids == tuple(qrels)


@pytest.mark.parametrize("scale", ["raw", "z"])
def test_every_value_of_a_grid_over_three(scale: str) -> None:
    run, qrels = collection(seed=1)
    names = ["bm25", "cross_encoder", "generator"]
    found = tune_weights(run, qrels, names, "nDCG@5", step=0.25, scale=scale)
    assert len(found.points) == 15
    assert np.allclose(found.points.sum(axis=1), 1)
    assert len({tuple(row) for row in found.points}) == 15
    for row, point in enumerate(found.points):
        fused = combine(run, dict(zip(names, map(float, point), strict=True)), scale=scale)
        assert found.values[row] == pytest.approx(evaluate_run(fused, qrels, ["nDCG@5"]).means["nDCG@5"], abs=1e-12)
    assert found.value == max(found.values)
    assert found.best.keys() == set(names)


def test_best_alone_and_gains_with_their_intervals() -> None:
    run, qrels = collection(questions=60)
    found = tune(run, qrels, "RR@10")
    values = dict(found.curve)
    assert found.value == max(values.values()) == values[found.generator_weight]
    assert found.alone == {"cross_encoder": values[0.0], "generator": values[1.0]}
    assert found.interval == bootstrap_mean(found.per_question[found.chosen])
    assert found.interval.low <= found.value <= found.interval.high
    for name, value in found.alone.items():
        assert found.gains[name].estimate == pytest.approx(found.value - value)
        assert found.gains[name].low <= found.gains[name].estimate <= found.gains[name].high
    assert found.best["cross_encoder"] + found.best["generator"] == pytest.approx(1)
    assert json.loads(json.dumps(found.to_json()))["generator_weight"] == found.generator_weight


def parted(relevant_wins_between: tuple[float, float]) -> tuple[Run, Qrels]:
    """One question whose relevant document is first for weights strictly between two numbers."""
    low, high = relevant_wins_between
    # Against "x": r leads from λ > low on; against "y": until λ = high. In raw scores both are straight lines.
    first = [0.0, low, -high]
    second = [0.0, low - 1, 1 - high]
    run = Run(
        ["q"],
        [["x", "r", "y"]],
        [[3.0, 2.0, 1.0]],
        components={
            "cross_encoder": [[first[1], first[0], first[2]]],
            "generator": [[second[1], second[0], second[2]]],
        },
    )
    return run, {"q": {"r": 1}}


def test_among_equals_the_weight_nearest_to_a_half() -> None:
    run, qrels = parted((0.62, 0.93))
    found = tune(run, qrels, "RR@10")
    best = [weight for weight, value in found.curve if value == 1.0]
    assert best == [0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    assert found.generator_weight == 0.65
    everywhere = Run(["q"], [["r"]], [[1.0]], components={"cross_encoder": [[1.0]], "generator": [[1.0]]})
    assert tune(everywhere, qrels).generator_weight == 0.5
    assert tune(everywhere, qrels, weights=[0.4, 0.6]).generator_weight == 0.4
    assert tune_weights(
        Run(["q"], [["r"]], [[1.0]], components={name: [[1.0]] for name in "abcd"}), qrels, list("abcd"), step=0.25
    ).best == dict.fromkeys("abcd", 0.25)


def test_the_ends_are_always_measured() -> None:
    run, qrels = collection()
    assert [weight for weight, _ in tune(run, qrels, weights=[0.3]).curve] == [0.0, 0.3, 1.0]


def test_a_run_without_a_hit_is_worth_0() -> None:
    found = tune(Run(["q"], [[]], [[]]), {"q": {"a": 1}})
    assert set(found.values) == {0.0}
    assert found.generator_weight == 0.5


def test_z_tunes_where_a_run_lacks_candidates_and_softmax_refuses() -> None:
    run = Run(["q"], [["a", "b"]], [[2.0, 1.0]], components={"x": [[1.0, math.nan]], "y": [[0.0, 1.0]]})
    assert tune(run, {"q": {"b": 1}}, first="x", second="y", scale="z").alone == {"x": 0.5, "y": 1.0}
    with pytest.raises(UsageError, match="Score every candidate"):
        tune(run, {"q": {"b": 1}}, first="x", second="y")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"weights": [0.5, 1.2]}, "between 0 and 1"),
        ({"weights": [math.nan]}, "between 0 and 1"),
        ({"second": "nobody"}, "no component 'nobody'; it carries bm25, cross_encoder, generator"),
        ({"second": "cross_encoder"}, "against itself"),
        ({"measure": "Brilliance@3"}, "unknown retrieval measure"),
        ({"scale": "log"}, "unknown scale"),
        ({"qrels": {}}, "no queries"),
    ],
)
def test_what_cannot_be_tuned(arguments: dict[str, object], complaint: str) -> None:
    run, qrels = collection()
    with pytest.raises(UsageError, match=complaint):
        tune(run, **({"qrels": qrels} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "step", "complaint"),
    [
        (["bm25"], 0.05, "two or more different"),
        (["bm25", "bm25"], 0.05, "two or more different"),
        (["bm25", "generator"], 0.3, "does not divide 1"),
        (["bm25", "generator"], math.nan, "does not divide 1"),
        (["bm25", "generator"], 0.0, "does not divide 1"),
        (["bm25", "generator", "cross_encoder"], 0.001, "more than 20,000"),
    ],
)
def test_what_is_no_grid(names: list[str], step: float, complaint: str) -> None:
    run, qrels = collection()
    with pytest.raises(UsageError, match=complaint):
        tune_weights(run, qrels, names, step=step)


def test_unknown_measures_are_refused_also_where_nothing_was_found() -> None:
    with pytest.raises(UsageError, match="unknown retrieval measure"):
        measure_weights(Run([], [], []), {"q": {"a": 1}}, ["x"], [[1.0]], "Brilliance", scale="z")
