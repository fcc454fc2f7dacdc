"""Candidate answers: their kinds, their places, and the cue words that ask for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.connect import TermWeights
from retgen.connect.answers import best_span, expected_kinds
from retgen.connect.spans import LONGEST_SPAN, answer_spans


@given(st.text())
def test_spans_lie_where_they_say(text: str) -> None:
    spans = answer_spans(text)
    assert spans == sorted(spans, key=lambda span: (span.start, span.end))
    for span in spans:
        assert text[span.start : span.end] == span.text
        assert 1 <= len(span.text.split()) <= LONGEST_SPAN


@pytest.mark.parametrize(
    ("sentence", "span", "kind"),
    [
        ("It opened on 4 May 1898 in Paris.", "4 May 1898", "date"),
        ("It opened on May 4, 1898, in Paris.", "May 4, 1898", "date"),
        ("It was built in the 19th century.", "19th century", "date"),
        ("It opened in 1898.", "1898", "year"),
        ("Some 45 % of it was lost.", "45 %", "percent"),
        ("Some 45 per cent was lost.", "45 per cent", "percent"),
        ("It cost $1.2 billion to build.", "$1.2 billion", "money"),
        ("It cost 30 dollars.", "30 dollars", "money"),
        ("It has twelve moons.", "twelve", "number"),
        ("It is 2,850 km long.", "2,850 km", "quantity"),
        ("She studied with Glenn T. Seaborg there.", "Glenn T. Seaborg", "name"),
        ("The University of Chicago is large.", "University of Chicago", "name"),
        ("Here, Newton's laws were found.", "Newton", "name"),
        ("It was cut by an iron saw.", "iron saw", "phrase"),
        ("Он родился в городе Москва.", "Москва", "name"),
    ],
)
def test_kinds(sentence: str, span: str, kind: str) -> None:
    assert (span, kind) in [(found.text, found.kind) for found in answer_spans(sentence)]


def test_a_function_word_that_opens_a_sentence_is_no_name() -> None:
    assert "The" not in [span.text for span in answer_spans("The Danube is long.")]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("In what year was it built?", "year"),
        ("When did it open?", "date"),
        ("Who built it?", "name"),
        ("How many rooms has it?", "number"),
        ("How long is it?", "quantity"),
        ("What percentage was lost?", "percent"),
        ("How much money did it cost?", "money"),
        ("What does it do?", "phrase"),
    ],
)
def test_cue_words(question: str, kind: str) -> None:
    kinds = expected_kinds(question)
    assert max(kinds, key=lambda each: kinds[each]) == kind


@given(st.text(), st.text())
def test_the_best_span_is_a_span_of_the_text(question: str, text: str) -> None:
    span = best_span(question, text, TermWeights())
    if span is not None:
        assert text[span.start : span.end] == span.text


def test_an_answer_does_not_repeat_the_question() -> None:
    text = "Marie Curie worked with Pierre Curie."
    span = best_span("Who worked with Marie Curie?", text, TermWeights())
    assert span is not None
    assert span.text == "Pierre Curie"
