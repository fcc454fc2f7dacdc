"""Fusion of two runs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.recipes.fusion import fuse
from retgen.types import Run

_SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-50, 50).map(lambda x: round(x, 3)), max_size=8)


@given(_SCORES, _SCORES)
def test_the_ends_keep_each_run_s_order(one: dict[str, float], two: dict[str, float]) -> None:
    first, second = Run.from_dict({"q": one}), Run.from_dict({"q": two})
    kept = [doc_id for doc_id in fuse(first, second, 0.0).doc_ids("q") if doc_id in one]
    assert kept == first.doc_ids("q")
    scores = {hit.doc_id: hit.score for hit in fuse(first, second, 1.0)["q"]}
    order = second.doc_ids("q")
    assert all(scores[a] >= scores[b] for a, b in pairwise(order))
    assert set(fuse(first, second, 0.5).doc_ids("q")) == {*one, *two}


def test_a_document_both_like_wins() -> None:
    first = Run.from_dict({"q": {"a": 3.0, "b": 2.9, "c": 0.0}})
    second = Run.from_dict({"q": {"b": -1.0, "c": -5.0, "a": -6.0}})
    assert fuse(first, second, 0.5).doc_ids("q")[0] == "b"


def test_queries_without_hits_stay() -> None:
    fused = fuse(Run.from_dict({"q": {}, "r": {"a": 1.0}}), Run.from_dict({"q": {}, "r": {}}), 0.3)
    assert fused.query_ids == ("q", "r")
    assert fused.doc_ids("q") == []


def test_a_weight_outside_is_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        fuse(Run.from_dict({}), Run.from_dict({}), 1.5)
