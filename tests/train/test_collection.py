"""Questions of a collection: what is trained on is never measured on, and chunks stand for their documents."""

from __future__ import annotations

import pytest

from retgen.corpus import Corpus
from retgen.errors import MismatchError, UsageError
from retgen.train.collection import CollectionTraining
from retgen.train.questions import collection_questions
from retgen.types import Document, Query, Triplet, question_split

TEXT = "Radium was discovered in 1898. Marie Curie isolated the metal in Paris. It boils at 1737 degrees."


def test_pseudo_questions_are_split_by_the_hash_of_their_ids() -> None:
    corpus = Corpus.from_documents([Document(f"d{number}", TEXT) for number in range(20)])
    questions = collection_questions(corpus, None)
    assert questions.pseudo
    assert {question_split(triplet.query.id) for triplet in questions.train} == {"train"}
    assert {question_split(triplet.query.id) for triplet in questions.held_out} == {"dev", "test"}


def test_given_questions_keep_their_documents() -> None:
    corpus = Corpus.from_documents([Document("d", TEXT)])
    given = [Triplet(Query(f"q{number}", "when?"), ("1898",), ("d",)) for number in range(30)]
    questions = collection_questions(corpus, given)
    assert not questions.pseudo
    assert sorted([*questions.train, *questions.held_out], key=lambda item: item.query.id) == sorted(
        given, key=lambda item: item.query.id
    )


@pytest.mark.parametrize(("answer", "number"), [("1898", 1), ("Paris", 1), ("nowhere to be found", 3)])
def test_a_document_becomes_the_chunks_that_hold_an_answer(answer: str, number: int) -> None:
    corpus = Corpus.from_documents([Document("a", "Tin is soft."), Document("d", TEXT)], chunk_words=6)
    given = [Triplet(Query(f"q{number}", "what?"), (answer,), ("d",)) for number in range(10)]
    triplet = collection_questions(corpus, given).train[0]
    assert len(triplet.doc_ids) == number
    for chunk in triplet.doc_ids:
        assert corpus.document_id(chunk) == "d"
        assert number > 1 or answer in corpus[chunk].text


def test_a_document_that_is_not_there_is_named() -> None:
    corpus = Corpus.from_documents([Document("d", TEXT)])
    with pytest.raises(MismatchError, match="question 'q' names the document 'e'"):
        collection_questions(corpus, [Triplet(Query("q", "when?"), (), ("e",))])


def test_documents_without_statements_cannot_be_trained_on() -> None:
    corpus = Corpus.from_documents([Document("d", "?!")])
    with pytest.raises(UsageError, match="none is left to train on"):
        collection_questions(corpus, None)


@pytest.mark.parametrize("options", [{"steps": 0}, {"pretraining_steps": -1}, {"batch_size": 0}, {"learning_rate": 0}])
def test_a_training_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"cannot train|teaches nothing"):
        CollectionTraining("scratch:tiny", **options)  # type: ignore[arg-type]
