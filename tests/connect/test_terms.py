"""Rare words weigh more, function words nothing, and sums do not depend on an order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.connect import TermWeights
from retgen.connect.terms import FUNCTION_WORDS
from retgen.errors import UsageError
from retgen.types import Document


def test_rarer_is_heavier_and_unseen_heaviest() -> None:
    weights = TermWeights.from_documents([Document(str(i), "metal" + " radium" * (i == 0)) for i in range(10)])
    assert 0 < weights.weight("metal") < weights.weight("radium") < weights.weight("polonium")


def test_words_are_matched_by_stem() -> None:
    weights = TermWeights()
    assert weights.terms("Discoveries") == weights.terms("discovery")
    assert weights.terms("who were THEY, and when?") == []
    assert weights.terms(" ".join(FUNCTION_WORDS)) == []


@given(st.lists(st.sampled_from(["a", "b", "c", "d"])), st.randoms())
def test_total_counts_each_term_once_in_any_order(terms: list[str], random: object) -> None:
    weights = TermWeights({"a": 1, "b": 3, "c": 5}, 7)
    assert weights.total(terms) == weights.total(list(reversed(terms)) * 2)


@given(st.text())
def test_any_text_has_terms_of_positive_weight(text: str) -> None:
    weights = TermWeights.from_documents([Document("a", text)])
    assert all(weights.weight(term) > 0 for term in weights.terms(text))


def test_other_languages_keep_their_words_and_unknown_ones_are_refused() -> None:
    assert TermWeights(language="german").terms("The Flüsse") == ["the", "fluss"]
    with pytest.raises(UsageError):
        TermWeights(language="klingon")
