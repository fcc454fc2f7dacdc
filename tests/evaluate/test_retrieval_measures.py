"""Retrieval measures: parity with pytrec_eval where there are no ties, ranks instead of scores where there are."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.evaluate import evaluate_run, parse_measure
from retgen.types import Run

MEASURES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "R@1": "recall_1",
    "R@5": "recall_5",
    "R@20": "recall_20",
    "Success@1": "success_1",
    "Success@5": "success_5",
    "AP": "map",
    "P@5": "P_5",
    "RR": "recip_rank",
}


def random_collection(seed: int, queries: int = 40) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(60)]
    scores: dict[str, dict[str, float]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for number in range(queries):
        found = rng.sample(documents, rng.randint(1, 50))
        scores[f"q{number}"] = dict(zip(found, rng.sample(range(1000), len(found)), strict=True))
        qrels[f"q{number}"] = {d: rng.choice([0, 0, 1, 1, 2, 3]) for d in rng.sample(documents, rng.randint(1, 20))}
    return scores, qrels


@pytest.mark.parametrize("seed", range(5))
def test_parity_with_pytrec_eval_without_ties(seed: int) -> None:
    scores, qrels = random_collection(seed)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(MEASURES.values())).evaluate(scores)
    ours = evaluate_run(Run.from_dict(scores), qrels, list(MEASURES))
    for name, their_name in MEASURES.items():
        for query_id in qrels:
            assert ours.per_query[name][query_id] == pytest.approx(theirs[query_id][their_name], abs=1e-9), name
        mean = sum(theirs[q][their_name] for q in qrels) / len(qrels)
        assert ours.means[name] == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_rr_with_a_cutoff_is_pytrec_evals_on_the_cut_run(seed: int) -> None:
    scores, qrels = random_collection(seed)
    cut = {q: dict(sorted(hits.items(), key=lambda hit: -hit[1])[:10]) for q, hits in scores.items()}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    ours = evaluate_run(Run.from_dict(scores), qrels, ["RR@10", "MRR@10"])
    for query_id in qrels:
        assert ours.per_query["RR@10"][query_id] == pytest.approx(theirs[query_id]["recip_rank"], abs=1e-9)
    assert ours.per_query["RR@10"] == ours.per_query["MRR@10"]
    assert list(ours.means) == ["RR@10", "MRR@10"]


def test_a_constant_scorer_gains_nothing_from_the_names_of_documents() -> None:
    # Relevant documents first, last and in the middle of the alphabet: providers that break ties by id differ here.
    for relevant in ("a", "m", "z"):
        others = [name for name in ("a", "m", "z", "k") if name != relevant]
        for position in range(4):
            ids = [*others[:position], relevant, *others[position:]]
            run = Run(["q"], [ids], [[0.5] * 4])
            result = evaluate_run(run, {"q": {relevant: 1}}, ["RR@10", "RR", "nDCG@10", "Success@1", "R@2", "AP"])
            assert result.means["RR@10"] == result.means["RR"] == pytest.approx(1 / (position + 1))
            assert result.means["Success@1"] == float(position == 0)
            assert result.means["R@2"] == float(position < 2)
            assert result.means["AP"] == pytest.approx(1 / (position + 1))


def test_ties_score_as_the_explicit_order_of_the_run() -> None:
    scores, qrels = random_collection(7)
    tied = Run(list(scores), [list(hits) for hits in scores.values()], [[1.0] * len(hits) for hits in scores.values()])
    explicit = Run.from_dict({q: {d: -float(rank) for rank, d in enumerate(hits)} for q, hits in scores.items()})
    measures = ["nDCG@10", "RR@10", "R@5", "Success@5", "AP"]
    assert evaluate_run(tied, qrels, measures).per_query == evaluate_run(explicit, qrels, measures).per_query


def test_presorted_runs_are_measured_in_the_order_they_show() -> None:
    run = Run(["q"], [["b", "a"]], [[0.1, 0.9]], presorted=True)
    assert evaluate_run(run, {"q": {"a": 1}}, ["RR@10"]).means == {"RR@10": 0.5}


def test_deep_ranks_stay_apart() -> None:
    # Providers compare scores in single precision; neighbouring ranks must not become ties there.
    ids = [f"d{i:06d}" for i in range(100_000)]
    result = evaluate_run(Run(["q"], [ids], [[0.0] * len(ids)]), {"q": {ids[99_998]: 1}}, ["RR", "R@99998", "R@99999"])
    assert result.means == {"RR": pytest.approx(1 / 99_999), "R@99998": 0.0, "R@99999": 1.0}


def test_all_queries_of_the_qrels_are_in_the_average() -> None:
    run = Run.from_dict({"found": {"a": 1.0}, "no hits": {}, "unjudged": {"a": 1.0}})
    qrels = {"found": {"a": 1}, "no hits": {"a": 1}, "missing": {"a": 1}, "nothing relevant": {"a": 0}}
    result = evaluate_run(run, qrels, ["RR@10", "nDCG@10", "R@10", "Success@1"])
    assert set(result.means.values()) == {0.25}
    assert result.num_queries == 4
    assert result.unjudged == 1
    assert result.without_hits == 3
    assert result.without_relevant == 1
    assert result.per_query["RR@10"] == {"found": 1.0, "no hits": 0.0, "missing": 0.0, "nothing relevant": 0.0}


def test_an_explicit_query_list_is_the_average() -> None:
    run = Run.from_dict({"q1": {"a": 1.0}, "q2": {"b": 1.0}, "q3": {"a": 1.0}})
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}}
    assert evaluate_run(run, qrels, ["RR@10"], query_ids=["q1"]).means == {"RR@10": 1.0}
    result = evaluate_run(run, qrels, ["RR@10"], query_ids=["q3", "q1"])
    assert result.means == {"RR@10": 0.5}
    assert list(result.per_query["RR@10"]) == ["q3", "q1"]
    assert (result.num_queries, result.without_relevant, result.unjudged) == (2, 1, 1)


def test_a_run_without_any_judged_query_scores_zero() -> None:
    result = evaluate_run(Run.from_dict({"x": {"a": 1.0}}), {"q": {"a": 1}}, ["RR@10", "nDCG@10"])
    assert result.means == {"RR@10": 0.0, "nDCG@10": 0.0}
    assert (result.unjudged, result.without_hits) == (1, 1)


def test_recall_counts_grades_from_one_and_higher_where_asked() -> None:
    run = Run.from_dict({"q": {"a": 3.0, "b": 2.0, "c": 1.0}})
    qrels = {"q": {"a": 1, "b": 2, "c": 0, "x": 2, "y": 1}}
    result = evaluate_run(run, qrels, ["R@10", "R(rel=2)@10", "Success(rel=2)@1"])
    assert result.means == {"R@10": 0.5, "R(rel=2)@10": 0.5, "Success(rel=2)@1": 0.0}


def test_measures_do_not_depend_on_the_company_they_are_asked_in() -> None:
    scores, qrels = random_collection(3)
    run = Run.from_dict(scores)
    names = ["R(rel=2)@10", "nDCG@10", "RR(rel=3)@5", "P@5", "R@10"]
    together = evaluate_run(run, qrels, names)
    for name in names:
        assert evaluate_run(run, qrels, [name]).per_query[name] == together.per_query[name]


def test_negative_grades_count_as_not_relevant() -> None:
    run = Run.from_dict({"q": {"junk": 2.0, "a": 1.0}})
    with_junk = evaluate_run(run, {"q": {"junk": -2, "a": 1}}, ["nDCG@10", "RR@10", "R@1"])
    assert with_junk.means == evaluate_run(run, {"q": {"junk": 0, "a": 1}}, ["nDCG@10", "RR@10", "R@1"]).means


@pytest.mark.parametrize(
    "name", ["nDGC@10", "nDCG@", "", "R", "RR@ten", "R(depth=3)@10", "R@0", "nDCG@-1", "__import__('os')", "RR@10; RR"]
)
def test_unknown_measures_are_named_with_common_ones(name: str) -> None:
    with pytest.raises(UsageError, match="nDCG@10, RR@10") as caught:
        evaluate_run(Run.from_dict({"q": {"a": 1.0}}), {"q": {"a": 1}}, [name])
    assert repr(name) in str(caught.value)


def test_nothing_to_measure_is_refused() -> None:
    run = Run.from_dict({"q": {"a": 1.0}})
    with pytest.raises(UsageError, match="no retrieval measures"):
        evaluate_run(run, {"q": {"a": 1}}, [])
    with pytest.raises(UsageError, match="no queries"):
        evaluate_run(run, {}, ["RR@10"])
    with pytest.raises(UsageError, match="twice"):
        evaluate_run(run, {"q": {"a": 1}}, ["RR@10"], query_ids=["q", "q"])


def test_mrr_is_rr() -> None:
    assert parse_measure("MRR@10") == parse_measure("RR@10") == parse_measure(" RR@10 ")


def test_inputs_are_left_as_they_were() -> None:
    qrels = {"q": {"a": -1, "b": 1}}
    evaluate_run(Run.from_dict({"q": {"a": 1.0}}), qrels, ["RR@10"])
    assert qrels == {"q": {"a": -1, "b": 1}}


def test_importing_the_room_loads_no_heavy_package() -> None:
    code = (
        "import sys, retgen.evaluate; "
        "print([m for m in ('ir_measures', 'matplotlib', 'scipy', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


documents = st.sampled_from("abcdefgh")
runs = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]),
    st.dictionaries(documents, st.sampled_from([0.0, 0.5, 1.0]), max_size=8),
    max_size=4,
)
judgements = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q5"]),
    st.dictionaries(documents, st.integers(0, 3), max_size=8),
    min_size=1,
    max_size=4,
)


@given(runs, judgements)
@settings(max_examples=100, deadline=None)
def test_values_lie_in_the_unit_interval_and_ignore_the_order_of_queries(
    scores: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]
) -> None:
    measures = ["nDCG@3", "RR@3", "R@3", "Success@1", "AP"]
    result = evaluate_run(Run.from_dict(scores), qrels, measures)
    turned = evaluate_run(
        Run.from_dict(dict(reversed(scores.items()))), dict(reversed(qrels.items())), list(reversed(measures))
    )
    for name in measures:
        assert set(result.per_query[name]) == set(qrels)
        assert all(0.0 <= value <= 1.0 + 1e-12 for value in result.per_query[name].values())
        assert turned.per_query[name] == result.per_query[name]
        assert turned.means[name] == pytest.approx(result.means[name])
