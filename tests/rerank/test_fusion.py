"""How scores are scaled, weighed and laid side by side."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import MismatchError, UsageError
from retgen.rerank.fusion import combine, fuse, join_runs, log_softmax, scaled, standardised
from retgen.types import Run

_SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-50, 50).map(lambda x: round(x, 3)), max_size=8)
_LIST = st.lists(st.floats(-1000, 1000).map(lambda x: round(x, 3)), max_size=12)
properties = settings(deadline=None, max_examples=50)


@properties
@given(_LIST, st.floats(-100, 100))
def test_log_softmax_is_a_distribution_whatever_is_added(scores: list[float], constant: float) -> None:
    values = np.array(scores)
    found = log_softmax(values)
    assert found.shape == values.shape
    if scores:
        assert math.isclose(np.exp(found).sum(), 1.0, rel_tol=1e-12)
        assert (found <= 0).all()
        np.testing.assert_allclose(log_softmax(values + constant), found, atol=1e-9)
        np.testing.assert_allclose(np.diff(found), np.diff(values), atol=1e-9)


def test_log_softmax_survives_large_scores() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1e6, 1e6 - 1, -1e6])), [-0.3132617, -1.3132617, -2e6], rtol=1e-6)


def test_standardised_has_mean_0_and_deviation_1() -> None:
    found = standardised(np.array([1.0, 2.0, 6.0]))
    assert found.mean() == pytest.approx(0)
    assert found.std() == pytest.approx(1)
    assert standardised(np.array([3.0, 3.0])).tolist() == [0.0, 0.0]
    assert standardised(np.zeros(0)).tolist() == []


def test_a_candidate_without_score_has_the_lowest_but_no_probability() -> None:
    holes = np.array([2.0, math.nan, 1.0])
    assert scaled(holes, "raw").tolist() == [2.0, 1.0, 1.0]
    assert scaled(holes, "z").tolist() == [1.0, -1.0, -1.0]
    assert scaled(np.array([math.nan, math.nan]), "z").tolist() == [0.0, 0.0]
    with pytest.raises(UsageError, match="1 of 3 candidates have no score"):
        scaled(holes, "log_softmax")
    with pytest.raises(UsageError, match="unknown scale"):
        scaled(holes, "softmax")


@properties
@given(_SCORES, _SCORES)
def test_the_ends_keep_each_run_s_order(one: dict[str, float], two: dict[str, float]) -> None:
    first, second = Run.from_dict({"q": one}), Run.from_dict({"q": two})
    for scale in ("z", "raw"):
        kept = [doc_id for doc_id in fuse(first, second, 0.0, scale=scale).doc_ids("q") if doc_id in one]
        assert kept == first.doc_ids("q")
        scores = {hit.doc_id: hit.score for hit in fuse(first, second, 1.0, scale=scale)["q"]}
        assert all(scores[a] >= scores[b] for a, b in pairwise(second.doc_ids("q")))
        assert set(fuse(first, second, 0.5, scale=scale).doc_ids("q")) == {*one, *two}


def test_a_document_both_like_wins() -> None:
    first = Run.from_dict({"q": {"a": 3.0, "b": 2.9, "c": 0.0}})
    second = Run.from_dict({"q": {"b": -1.0, "c": -5.0, "a": -6.0}})
    assert fuse(first, second, 0.5).doc_ids("q")[0] == "b"


def test_raw_fusion_adds_the_scores_themselves() -> None:
    first, second = Run.from_dict({"q": {"a": 10.0, "b": 2.0}}), Run.from_dict({"q": {"b": 0.9, "c": 0.5}})
    assert fuse(first, second, 0.5, scale="raw").to_dict() == {"q": {"a": 5.25, "b": 1.45, "c": 1.25}}


def test_queries_without_hits_stay() -> None:
    fused = fuse(Run.from_dict({"q": {}, "r": {"a": 1.0}}), Run.from_dict({"q": {}, "r": {}}), 0.3)
    assert fused.query_ids == ("q", "r")
    assert fused.doc_ids("q") == []


@pytest.mark.parametrize("weight", [1.5, -0.1, math.nan])
def test_a_weight_outside_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        fuse(Run.from_dict({}), Run.from_dict({}), weight)


def test_runs_side_by_side_keep_every_document_and_say_who_lacks_it() -> None:
    joined = join_runs(
        {"x": Run.from_dict({"q": {"a": 3.0, "b": 2.0}}), "y": Run.from_dict({"q": {"c": 5.0, "a": 4.0}})}
    )
    assert joined.doc_ids("q") == ["a", "b", "c"]
    np.testing.assert_array_equal(joined.scores("q", "x"), [3.0, 2.0, math.nan])
    np.testing.assert_array_equal(joined.scores("q", "y"), [4.0, math.nan, 5.0])


@properties
@given(_SCORES, _SCORES, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from(["z", "raw"]))
def test_combining_runs_side_by_side_is_their_fusion(
    one: dict[str, float], two: dict[str, float], weight: float, scale: str
) -> None:
    first, second = Run.from_dict({"q": one}), Run.from_dict({"q": two})
    combined = combine(join_runs({"x": first, "y": second}), {"x": 1 - weight, "y": weight}, scale=scale)
    fused = fuse(first, second, weight, scale=scale).to_dict()["q"]
    assert combined.to_dict()["q"] == pytest.approx(fused, abs=1e-9)


def test_runs_that_do_not_belong_together_are_refused() -> None:
    here = Run.from_dict({"q": {"a": 1.0}}, fingerprint="one")
    with pytest.raises(MismatchError, match="different corpora"):
        join_runs({"x": here, "y": Run.from_dict({"q": {"a": 1.0}}, fingerprint="two")})
    with pytest.raises(UsageError, match="'x' and 'y' are not over the same queries; 1 stand in one of them only"):
        join_runs({"x": here, "y": Run.from_dict({"q": {}, "r": {}})})
    with pytest.raises(UsageError, match="no runs"):
        join_runs({})


def test_combining_keeps_components_and_cuts_at_k() -> None:
    run = Run(["q"], [["a", "b", "c"]], [[3.0, 2.0, 1.0]], components={"x": [[1.0, 2.0, 3.0]], "y": [[0.0, 0.0, 9.0]]})
    found = combine(run, {"x": 1.0, "y": 1.0}, scale="raw", name="sum", k=2)
    assert found.doc_ids("q") == ["c", "b"]
    assert set(found.component_names) == {"x", "y", "sum"}
    assert found.scores("q").tolist() == found.scores("q", "sum").tolist() == [12.0, 2.0]
    assert run.doc_ids("q") == ["a", "b", "c"]


@pytest.mark.parametrize("weights", [{}, {"x": -1.0}, {"x": math.nan}, {"x": math.inf}, {"x": 0.0}])
def test_weights_that_order_nothing_are_refused(weights: dict[str, float]) -> None:
    run = Run(["q"], [["a"]], [[1.0]], components={"x": [[1.0]]})
    with pytest.raises(UsageError):
        combine(run, weights)


def test_a_component_that_is_not_there_is_named_with_those_that_are() -> None:
    run = Run(["q"], [["a"]], [[1.0]], components={"x": [[1.0]]})
    with pytest.raises(UsageError, match="no component 'generator'; it carries x"):
        combine(run, {"generator": 1.0})
    assert combine(Run(["q"], [[]], [[]]), {"generator": 1.0}).doc_ids("q") == []
