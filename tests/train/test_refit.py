"""Fitting again between rounds: on each round's connectors of the training questions, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.iterate import iterate
from retgen.train import refit
from retgen.train.examples import UniGenExample, finetuning_examples
from retgen.train.refit import refit_unigen
from retgen.types import Query, Triplet
from tests.train.toy import CORPUS, TRIPLETS, contexts, same_weights, toy_options, toy_system, weights
from tests.writers import Scribe

HEADS: dict[str, Any] = {"copy_head": True, "span_head": True}
TRAIN, TEST = TRIPLETS[:5], [triplet.query for triplet in TRIPLETS[5:]]


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[list[UniGenExample]]:
    """The examples of every training, which happens all the same."""
    seen: list[list[UniGenExample]] = []
    train = refit.train_unigen

    def recording(system: UniGen, examples: Sequence[UniGenExample], *rest: Any, **options: Any) -> Any:
        seen.append(list(examples))
        return train(system, examples, *rest, **options)

    monkeypatch.setattr(refit, "train_unigen", recording)
    return seen


def test_each_round_is_trained_on_its_own_connectors_of_training_questions(
    tmp_path: Path, trained_on: list[list[UniGenExample]]
) -> None:
    system = toy_system(**HEADS)
    first, scribe = weights(system), Scribe()
    start = contexts([triplet.query for triplet in TRAIN])
    fit_again = refit_unigen(
        TRAIN, CORPUS, scribe, tmp_path, queries=start, options=toy_options(max_steps=2), feedback_documents=2, k=4
    )
    used: list[UniGen] = []

    def remembered(number: int, last: UniGen) -> UniGen:
        used.append(fit_again(number, last))
        return used[-1]

    rounds = iterate(system, contexts(TEST), CORPUS, scribe, rounds=2, feedback_documents=2, k=4, refit=remembered)
    # Before each round the writer is given the training questions, then those that are iterated on.
    training, asked = scribe.enhanced[::2], scribe.enhanced[1::2]
    assert [given.round for given in training] == [given.round for given in asked] == [1, 2]
    queries, last = start, system
    for number, given, fitted, examples in zip((1, 2), training, used, trained_on, strict=True):
        assert given.queries == queries
        run, answers = last.search_and_answer(queries, k=4)
        assert [[document.id for document in row] for row in given.documents] == [
            run.doc_ids(query.id)[:2] for query in queries
        ]
        assert [answer.text for answer in given.answers if not isinstance(answer, str)] == [
            answer.text for answer in answers
        ]
        written = Scribe().enhance(given.queries, given.documents, given.answers, round=number)
        queries = [query.with_connector(text) for query, text in zip(queries, written, strict=True)]
        assert examples == finetuning_examples(TRAIN, queries, system.table)
        assert not same_weights(weights(fitted), weights(last))
        last = fitted
    assert same_weights(weights(system), first)
    assert rounds[2].answers == last.search_and_answer(rounds[2].queries, k=4)[1]


def test_questions_that_are_iterated_on_are_never_trained_on(
    tmp_path: Path, trained_on: list[list[UniGenExample]]
) -> None:
    system, scribe = toy_system(**HEADS), Scribe()
    system.writer = scribe
    fit_again = refit_unigen(TRAIN, CORPUS, scribe, tmp_path, options=toy_options(max_steps=1))
    iterate(system, TEST, CORPUS, scribe, rounds=2, refit=fit_again)
    own = {triplet.query.id for triplet in TRAIN}
    assert all({query.id for query in given.queries} == own for given in scribe.enhanced[::2])
    for examples in trained_on:
        assert len(examples) == len(TRAIN)
        for example in examples:
            assert not any(query.text in example.input_text for query in TEST)
    # Without queries the system's own writer gives round 0's connectors, once.
    asked = [query_id for query_id, _ in scribe.contexts_asked]
    assert sorted(asked) == sorted([*own, *(query.id for query in TEST)])


def test_the_same_place_goes_on(tmp_path: Path) -> None:
    def fitted() -> UniGen:
        fit_again = refit_unigen(
            TRAIN, CORPUS, Scribe(), tmp_path, queries=contexts(), options=toy_options(max_steps=2)
        )
        return fit_again(1, toy_system(**HEADS))

    one = fitted()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "round1").rglob("model.safetensors")}
    assert written
    assert same_weights(weights(one), weights(fitted()))
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "round1").rglob("model.safetensors")}


def test_what_cannot_be_fitted_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to fit again on"):
        refit_unigen([], CORPUS, Scribe(), tmp_path)
    with pytest.raises(UsageError, match="'q-nobody' has no input"):
        refit_unigen([Triplet(Query("q-nobody", "?"), ("x",), ())], CORPUS, Scribe(), tmp_path, queries=contexts())
