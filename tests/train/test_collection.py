"""Questions of a collection: what is trained on is never measured on, and chunks stand for their documents."""

from __future__ import annotations

import pytest

from retgen.corpus import Corpus
from retgen.errors import MismatchError, UsageError
from retgen.train.collection_plan import CollectionTraining
from retgen.train.questions import collection_questions
from retgen.types import Document, Query, Triplet, question_split

TEXT = "Radium was discovered in 1898. Marie Curie isolated the metal in Paris. It boils at 1737 degrees."


def test_pseudo_questions_are_split_by_the_hash_of_their_ids() -> None:
    corpus = Corpus.from_documents([Document(f"d{number}", TEXT) for number in range(20)])
    questions = collection_questions(corpus, None)
    assert questions.pseudo
    assert {question_split(triplet.query.id) for triplet in questions.train} == {"train"}
    assert {question_split(triplet.query.id) for triplet in questions.held_out} == {"dev", "test"}


def numbered(count: int) -> list[Triplet]:
    return [Triplet(Query(f"q{number}", "when?"), ("1898",), ("d",) if number % 3 else ()) for number in range(count)]


@pytest.mark.parametrize("most", [0, 1, 5, 1000])
def test_dev_questions_come_from_the_training_share_alone(most: int) -> None:
    corpus = Corpus.from_documents([Document("d", TEXT)])
    without = collection_questions(corpus, numbered(200))
    asked = collection_questions(corpus, numbered(200), dev_questions=most)
    assert len(asked.dev) == min(most, len(without.train) // 10)
    assert asked.held_out == without.held_out
    own, dev = ({triplet.query.id for triplet in part} for part in (asked.train, asked.dev))
    assert own | dev == {triplet.query.id for triplet in without.train}
    assert not own & dev
    assert all(triplet.doc_ids for triplet in asked.dev)
    assert {question_split(name) for name in dev} <= {"train"}


@pytest.mark.parametrize(("count", "dev"), [(1, 0), (2, 1)])
def test_few_questions_give_one_for_dev_and_keep_one(count: int, dev: int) -> None:
    corpus = Corpus.from_documents([Document("d", TEXT)])
    trained_on = [triplet for triplet in numbered(50) if question_split(triplet.query.id) == "train"]
    few = [triplet for triplet in trained_on if triplet.doc_ids][:count]
    asked = collection_questions(corpus, few, dev_questions=100)
    assert (len(asked.dev), len(asked.train)) == (dev, 1)


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


@pytest.mark.parametrize(
    ("steps", "eval_steps", "every"),
    [(300, None, 60), (10, None, 2), (11, None, 3), (2, None, 1), (9, 0, 0), (9, 4, 4)],
)
def test_dev_questions_are_asked_about_five_times(steps: int, eval_steps: int | None, every: int) -> None:
    options = CollectionTraining("scratch:tiny", steps=steps, eval_steps=eval_steps)
    assert options.measured_every == every
    assert options.stage(steps).eval_steps == 0


@pytest.mark.parametrize("options", [{"eval_steps": -1}, {"eval_steps": 0, "keep_best": True}])
def test_measures_that_cannot_be(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"eval_steps|0 for never"):
        CollectionTraining("scratch:tiny", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"steps": 0}, {"pretraining_steps": -1}, {"batch_size": 0}, {"learning_rate": 0}])
def test_a_training_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"cannot train|teaches nothing"):
        CollectionTraining("scratch:tiny", **options)  # type: ignore[arg-type]
