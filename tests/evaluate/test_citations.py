"""Citations: each measure counts what it says, over the answers it can be asked of."""

from __future__ import annotations

import pytest

from retgen.errors import UsageError
from retgen.evaluate import CITATION_MEASURES, evaluate_citations
from retgen.types import Answer, Document

DOCUMENTS = {
    "nepal": Document("nepal", "Everest lies in Nepal.", "Everest"),
    "high": Document("high", "It is 8849 metres high.", "Nepal"),
}
GOLD = {"a": ["Nepal"], "b": ["Nepal"], "c": ["8849"], "d": [], "e": ["Nepal"], "f": ["Nepal"]}
ANSWERS = [
    Answer("a", "nepal", passages=("nepal", "high"), source="nepal"),
    Answer("b", "Nepal", passages=("high", "nepal"), source="high"),  # the other passage has it
    Answer("c", "Nepal", passages=("high",), source="high"),  # wrong, and from the right passage
    Answer("d", "Nepal", passages=("nepal",), source="nepal"),  # there is no answer
    Answer("e", "Nepal"),  # closed book
    Answer("f", "", passages=("nepal",)),  # nothing said
]


def test_each_measure_by_hand() -> None:
    found = evaluate_citations(ANSWERS, GOLD, DOCUMENTS)
    assert found.per_question["answer_in_passages"] == {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}
    assert found.per_question["answer_in_source"] == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0}
    assert found.per_question["citation_precision"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert found.means == {
        "answer_in_passages": 0.75,
        "answer_in_source": 0.5,
        "citation_precision": pytest.approx(2 / 3),
    }
    assert (found.num_answers, found.cited) == (5, 4)
    assert set(found.per_question) == set(CITATION_MEASURES)


def test_a_system_that_cites_nothing_has_no_means() -> None:
    found = evaluate_citations(ANSWERS[4:5], GOLD, DOCUMENTS)
    assert found.means == {}
    assert (found.num_answers, found.cited) == (1, 0)


def test_bad_input_is_named() -> None:
    with pytest.raises(UsageError, match="no gold answers of question 'a'"):
        evaluate_citations(ANSWERS[:1], {}, DOCUMENTS)
    with pytest.raises(UsageError, match="twice"):
        evaluate_citations([ANSWERS[0], ANSWERS[0]], GOLD, DOCUMENTS)
