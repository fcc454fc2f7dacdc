"""Rounds: each reads what the round before it found and said."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from retgen.connect.writer import Writer
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.iterate import Round, iterate
from retgen.types import Answer, Connector
from tests.train.toy import CORPUS, DOCUMENTS, QUESTIONS, contexts, toy_system, toy_writer
from tests.writers import Scribe

HEADS: dict[str, Any] = {"copy_head": True, "span_head": True}


@pytest.fixture(scope="module")
def system() -> UniGen:
    return toy_system(**HEADS)


def test_scribe_is_a_writer() -> None:
    assert isinstance(Scribe(), Writer)


def test_rounds_are_kept(system: UniGen) -> None:
    scribe = Scribe()
    rounds = iterate(system, contexts(), CORPUS, scribe, rounds=3, k=4)
    assert [done.number for done in rounds] == [0, 1, 2, 3]
    assert [asked.round for asked in scribe.enhanced] == [1, 2, 3]
    for done in rounds:
        assert [query.id for query in done.queries] == [query.id for query in QUESTIONS]
        assert [query.text for query in done.queries] == [query.text for query in QUESTIONS]
        assert [answer.query_id for answer in done.answers] == [query.id for query in QUESTIONS]
        assert done.run.query_ids == tuple(query.id for query in QUESTIONS)
        assert all(len(done.run[query_id]) == 4 for query_id in done.run)


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_every_round_is_what_the_system_says_of_its_queries(system: UniGen, rounds: int) -> None:
    done = iterate(system, contexts(), CORPUS, Scribe(), rounds=rounds, k=4)
    assert len(done) == rounds + 1
    assert done[0].queries == contexts()
    for one in done:
        run, answers = system.search_and_answer(one.queries, k=4)
        assert one.run.to_dict() == run.to_dict()
        assert one.answers == answers


@pytest.mark.parametrize("fed_back", [1, 3, 100])
def test_a_round_reads_the_last_rounds_documents_and_answer(system: UniGen, fed_back: int) -> None:
    scribe = Scribe()
    rounds = iterate(system, contexts(), CORPUS, scribe, rounds=2, feedback_documents=fed_back, words=33, k=4)
    for (last, now), given in zip(pairwise(rounds), scribe.enhanced, strict=True):
        assert given.queries == last.queries
        assert given.answers == last.answers
        assert given.words == 33
        assert given.round == now.number
        for query, row, answer, asked in zip(given.queries, given.documents, given.answers, now.queries, strict=True):
            assert [document.id for document in row] == last.run.doc_ids(query.id)[:fed_back]
            assert row == [CORPUS[document.id] for document in row]
            assert isinstance(answer, Answer)
            assert asked.connector == Connector(
                f"{query.text} {' '.join(document.title for document in row)} {answer.text}", "scribe", now.number
            )


def test_no_rounds_never_enhance(system: UniGen) -> None:
    scribe = Scribe()
    assert len(iterate(system, contexts(), CORPUS, scribe, rounds=0)) == 1
    assert scribe.enhanced == []


def test_the_systems_own_writer_writes_round_0(system: UniGen) -> None:
    with_writer = UniGen(
        system.model, system.tokenizer, system.table, writer=Scribe(), settings=system.settings, device="cpu"
    )
    rounds = iterate(with_writer, QUESTIONS, CORPUS, Scribe(), rounds=1)
    assert [query.input_text for query in rounds[0].queries] == [f"first {query.text}" for query in QUESTIONS]
    assert all(query.connector is not None and query.connector.round == 1 for query in rounds[1].queries)
    assert all(query.connector is None for query in QUESTIONS)


def test_the_offline_writer_carries_the_answer_on(system: UniGen) -> None:
    rounds = iterate(system, contexts(), CORPUS, toy_writer(), rounds=2, k=4)
    for last, now in pairwise(rounds):
        for answer, query in zip(last.answers, now.queries, strict=True):
            assert query.input_text.startswith(query.text)
            assert (f"answer: {answer.text} " in query.input_text) == bool(answer.text)
            assert query.connector is not None
            assert query.connector.round == now.number


def test_the_model_is_refitted_before_each_round(system: UniGen) -> None:
    given: list[tuple[int, UniGen]] = []
    made: list[UniGen] = []

    def refit(number: int, last: UniGen) -> UniGen:
        given.append((number, last))
        made.append(toy_system(seed=number, **HEADS))
        with torch.no_grad():
            made[-1].model.shared.weight.mul_(1.5)
        return made[-1]

    rounds = iterate(system, contexts(), CORPUS, Scribe(), rounds=2, k=4, refit=refit)
    assert [number for number, _ in given] == [1, 2]
    assert [last for _, last in given] == [system, made[0]]
    for done, used in zip(rounds, (system, *made), strict=True):
        run, answers = used.search_and_answer(done.queries, k=4)
        assert done.run.to_dict() == run.to_dict()
        assert done.answers == answers
    kept = iterate(system, contexts(), CORPUS, Scribe(), rounds=1, k=4)
    assert kept[1].run.to_dict() != rounds[1].run.to_dict()


def test_progress_names_the_round(system: UniGen) -> None:
    seen: list[tuple[int, int, int]] = []
    iterate(system, contexts(), CORPUS, Scribe(), rounds=1, progress=lambda *where: seen.append(where))
    assert [number for number, _, _ in seen] == sorted(number for number, _, _ in seen)
    assert {number for number, _, _ in seen} == {0, 1}
    assert (0, 8, 8) in seen
    assert seen[-1] == (1, 8, 8)


def test_nothing_of_the_callers_is_changed(system: UniGen) -> None:
    queries = contexts()
    iterate(system, queries, CORPUS, Scribe(), rounds=1)
    assert queries == contexts()


def test_no_questions(system: UniGen) -> None:
    rounds: list[Round] = iterate(system, [], CORPUS, toy_writer(), rounds=1)
    assert [len(done.run) for done in rounds] == [0, 0]


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"feedback_documents": 0}, {"k": 0}, {"words": 0}])
def test_arguments_that_cannot_be(system: UniGen, wrong: dict[str, int]) -> None:
    scribe = Scribe()
    with pytest.raises(UsageError):
        iterate(system, contexts(), CORPUS, scribe, **wrong)
    assert scribe.enhanced == []


def test_one_document_feeds_back_one() -> None:
    system = toy_system({"iron": "Iron"}, **HEADS)
    scribe = Scribe()
    iterate(system, QUESTIONS, {"iron": DOCUMENTS[1]}, scribe, rounds=1)
    assert scribe.enhanced[0].documents == [[DOCUMENTS[1]]] * len(QUESTIONS)
