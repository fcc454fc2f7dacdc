"""Pseudo questions ask for a span of their document and do not give it away."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.connect import held_out, pseudo_questions
from retgen.connect.question_forms import ask, clause_of
from retgen.connect.spans import answer_spans
from retgen.connect.verbs import base_form
from retgen.errors import UsageError
from retgen.text import has_answer, normalise_answer, sentences
from retgen.types import Document, Triplet, question_split

WORDS = "The Iron Curie in 1898 , melts discovered was Paris river 12 of . ! ; ( ) It — Ä 東京 metal and by".split()
TEXTS = st.one_of(st.text(max_size=150), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))


def _check(document: Document, pseudo: list[Triplet], per_document: int) -> None:
    whole = {normalise_answer(document.text[start:end]) for start, end in sentences(document.text)}
    assert len(pseudo) <= per_document
    assert [triplet.query.id for triplet in pseudo] == [f"{document.id}::pq{i}" for i in range(len(pseudo))]
    assert len({triplet.query.text for triplet in pseudo}) == len(pseudo)
    for triplet in pseudo:
        [answer] = triplet.answers
        assert triplet.doc_ids == (document.id,)
        assert answer in " ".join(document.text.split())
        assert not has_answer([answer], triplet.query.text)
        assert f" {normalise_answer(answer)} " not in f" {normalise_answer(triplet.query.text)} "
        assert normalise_answer(triplet.query.text) not in whole
        assert triplet.query.text.endswith("?")


@given(TEXTS, st.integers(1, 12), st.integers())
@settings(max_examples=300)
def test_fair_whatever_the_text(text: str, per_document: int, seed: int) -> None:
    document = Document("d", text)
    pseudo = pseudo_questions([document], per_document, seed)
    _check(document, pseudo, per_document)
    assert pseudo == pseudo_questions([document], per_document, seed)


def test_a_documents_questions_do_not_depend_on_the_others(documents: dict[str, Document]) -> None:
    collection = list(documents.values())
    together = pseudo_questions(collection, seed=3)
    alone = [triplet for document in reversed(collection) for triplet in pseudo_questions([document], seed=3)]
    assert sorted(together, key=lambda t: t.query.id) == sorted(alone, key=lambda t: t.query.id)
    assert together != pseudo_questions(collection, seed=4)


def test_every_document_of_the_collection_is_asked_about(documents: dict[str, Document]) -> None:
    pseudo = pseudo_questions(documents.values())
    for document in documents.values():
        own = [triplet for triplet in pseudo if triplet.doc_ids == (document.id,)]
        _check(document, own, 10)
        assert len(own) >= 5


@pytest.mark.parametrize("text", ["", " ", "no.", "!!!", "iron"])
def test_short_documents_give_none(text: str) -> None:
    assert pseudo_questions([Document("d", text)]) == []


def test_no_document_and_no_question() -> None:
    assert pseudo_questions([]) == []
    with pytest.raises(UsageError, match="0 questions"):
        pseudo_questions([], per_document=0)


@pytest.mark.parametrize(
    ("sentence", "answer", "person", "expected"),
    [
        ("Marie Curie discovered radium in 1898.", "Marie Curie", True, {"Who discovered radium in 1898?"}),
        ("Radium glows and Paris is large.", "Paris", False, None),
        (
            "The tower was built in 1889 by Eiffel.",
            "1889",
            False,
            {f"{words} was the tower built by Eiffel?" for words in ("When", "In what year", "In which year")},
        ),
        (
            "She isolated the metal in 1910.",
            "1910",
            False,
            {f"{words} did she isolate the metal?" for words in ("When", "In what year", "In which year")},
        ),
        ("The tower was built in Paris.", "Paris", False, {"Where was the tower built?"}),
        ("The planet has twelve moons and rings.", "twelve", False, {"How many moons has the planet and rings?"}),
    ],
)
def test_tidy_forms(sentence: str, answer: str, person: bool, expected: set[str] | None) -> None:
    [span] = [span for span in answer_spans(sentence) if span.text == answer]
    clause = clause_of(sentence, span, set())
    asked = {ask(clause, random.Random(seed), is_person=person, tidy=True) for seed in range(30)}
    assert asked == (expected if expected is not None else {None})


def test_loose_forms_drop_and_reorder_words() -> None:
    sentence = "In Paris the physicist Marie Curie patiently isolated one gram of the silvery metal radium."
    [span] = [span for span in answer_spans(sentence) if span.text == "Marie Curie"]
    clause = clause_of(sentence, span, set())
    asked = {ask(clause, random.Random(seed), is_person=True, tidy=False) for seed in range(60)}
    assert len(asked) > 5
    assert all(question is not None and "who" in question.lower() for question in asked)


@pytest.mark.parametrize(
    ("past", "base"),
    [("stopped", "stop"), ("carried", "carry"), ("located", "locate"), ("began", "begin"), ("hundred", None)],
)
def test_base_forms(past: str, base: str | None) -> None:
    assert base_form(past) == base


def test_held_out_follows_the_hash_of_the_ids(documents: dict[str, Document]) -> None:
    pseudo = [
        triplet
        for i in range(40)
        for triplet in pseudo_questions(
            [Document(f"{i}-{document.id}", document.text) for document in documents.values()]
        )
    ]
    split = held_out(pseudo)
    assert sorted(map(repr, [*split.train, *split.dev, *split.test])) == sorted(map(repr, pseudo))
    for name, part in split._asdict().items():
        assert part
        assert all(question_split(triplet.query.id) == name for triplet in part)
    assert len(split.train) > 6 * len(split.test)


def test_no_two_ask_for_the_same_place() -> None:
    # Every word occurs once, so that answers that share one would share a place.
    text = (
        "Alice Brown met Carol in 1850. Near Danzig twelve ships carried 300 barrels of grey salt to Emden in May 1861."
    )
    answers = [triplet.answers[0].split() for triplet in pseudo_questions([Document("d", text)], 50)]
    words = [word for answer in answers for word in answer]
    assert len(answers) >= 5
    assert len(set(words)) == len(words)
