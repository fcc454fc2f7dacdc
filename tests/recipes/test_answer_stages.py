"""The stages of answers, one at a time: what they measure, what they refuse, and what they do not do twice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retgen.connect.prompted import PromptedWriter
from retgen.corpus import Corpus
from retgen.evaluate import bleu1, evaluate_answers
from retgen.formats import read_run
from retgen.llm import Ledger
from retgen.llm.outcomes import Outcome
from retgen.llm.requests import CompletionRequest
from retgen.recipes import StageContext, StageError
from retgen.recipes.answer_measures import CALIBRATION, answer_measures
from retgen.recipes.answering import READER, reader_answers, reader_train
from retgen.recipes.collections import write_questions
from retgen.recipes.comparing import CORPUS_MEASURES
from retgen.recipes.measuring import read_answers, write_outcome
from retgen.recipes.passages_to_read import gold_outcome, training_search
from retgen.recipes.writers import Author, written_by
from retgen.recipes.written import BARE, prompted_answers
from retgen.types import Answer, Query, Run, Triplet
from tests.train.toy import DOCUMENTS, QUESTIONS, TRIPLETS
from tests.train.toy_readers import toy_answerer, toy_run

FREE = {
    "d": ["She was so beautiful.", "she was too beautiful"],
    "e": ["He went home to his father's castle."],
    "f": ["golden hair"],
}
SAID = {"d": "she was very beautiful", "e": "He stayed.", "f": "golden hair"}


def context(place: Path, name: str = "stage", **inputs: Path) -> StageContext:
    folder, scratch = place / name, place / f"{name}.scratch"
    folder.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    return StageContext(name, folder, scratch, place, inputs, None, (), lambda _event: None, 0)


def collection(place: Path, **splits: Sequence[Triplet]) -> Path:
    place.mkdir(parents=True)
    Corpus.build(DOCUMENTS, place / "corpus")
    for split in ("train", "dev", "test"):
        write_questions(place, split, splits.get(split, ()))
    return place


def outcome(place: Path, split: str, answers: Sequence[Answer], run: Run | None = None) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    write_outcome(place, run, answers, 1.0, split, cited=True)
    return place


def triplets(gold: dict[str, list[str]]) -> list[Triplet]:
    return [Triplet(Query(name, f"{name}?"), tuple(answers), ("none",)) for name, answers in gold.items()]


# Measuring


def test_free_answers_are_measured_by_their_words(tmp_path: Path) -> None:
    place = collection(tmp_path / "collection", test=triplets(FREE))
    said = outcome(tmp_path / "outcome", "test", [Answer(name, text, -1.0) for name, text in SAID.items()])
    made = context(tmp_path, collection=place, outcome=said)
    answer_measures(made)
    report = made.reported
    expected = evaluate_answers(SAID, FREE, ["BLEU-1", "ROUGE-L"])
    assert report.values["BLEU-1"] == expected.means["BLEU-1"] > 0.3
    assert report.values["ROUGE-L"] == expected.means["ROUGE-L"] > 0.3
    assert report.values["EM"] == pytest.approx(1 / 3)
    assert report.per_question["ROUGE-L"]["f"] == 1.0
    # What a report tests BLEU-1 with: statistics that give the value again when they are added up.
    assert "BLEU-1" in CORPUS_MEASURES
    rows = report.statistics["BLEU-1"]
    assert rows.keys() == FREE.keys()
    assert float(bleu1([sum(column) for column in zip(*rows.values(), strict=True)])) == report.values["BLEU-1"]
    # No passages, no dev questions: nothing is said of them.
    assert {"R@1", "citation_precision", "answer_in_passages", "ece"}.isdisjoint(report.values)


def sure_and_unsure(split: str, count: int = 40) -> tuple[list[Triplet], list[Answer]]:
    """Answers: those with high scores are right three times in four, the others once in four; all look unsure."""
    asked, said = [], []
    for number in range(count):
        sure = number % 2 == 0
        right = number // 2 % 4 < (3 if sure else 1)
        asked.append(Triplet(Query(f"{split}{number}", "?"), ("yes",), ("none",)))
        said.append(Answer(f"{split}{number}", "yes" if right else "no", -6.0 if sure else -9.0))
    return asked, said


def test_scores_are_calibrated_on_dev_questions(tmp_path: Path) -> None:
    dev, dev_said = sure_and_unsure("dev")
    test, test_said = sure_and_unsure("test")
    place = collection(tmp_path / "collection", dev=dev, test=test)
    folder = outcome(tmp_path / "outcome", "test", test_said)
    elsewhere = outcome(tmp_path / "elsewhere", "dev", dev_said)
    made = context(tmp_path, collection=place, outcome=folder, dev=elsewhere)
    answer_measures(made, risk=0.3)
    values: Any = made.reported.values
    before = 0.5 - (math.exp(-6.0) + math.exp(-9.0)) / 2
    assert values["ece_before"] == pytest.approx(before)
    assert values["ece"] < 0.05
    # The surer half is answered, and wrong once in four.
    assert values["coverage"] == pytest.approx(0.5)
    assert values["selective_risk"] == pytest.approx(0.25)
    assert values["calibrated_on"] == 40
    assert values["aurc"] < 0.5
    kept = json.loads((made.folder / CALIBRATION).read_text())
    assert kept["threshold"] == values["threshold"]
    assert kept["calibration"]["slope"] > 0
    # A risk that no threshold keeps: nothing is answered.
    never = context(tmp_path, "never", collection=place, outcome=folder, dev=elsewhere)
    answer_measures(never, risk=0.1)
    assert (never.reported.values["threshold"], never.reported.values["coverage"]) == (None, 0.0)


def test_an_answer_without_a_source_is_cited_from_where_it_stands(tmp_path: Path) -> None:
    first, second = DOCUMENTS[0], DOCUMENTS[1]
    word = next(word for word in second.text.split() if word.isalpha() and word not in first.text)
    place = collection(tmp_path / "collection", test=[Triplet(Query("q", "?"), (word,), (first.id,))])
    run = Run.from_dict({"q": {first.id: 2.0, second.id: 1.0}})
    made = context(tmp_path, collection=place, outcome=outcome(tmp_path / "outcome", "test", [Answer("q", word)], run))
    answer_measures(made)
    assert made.reported.values["citation_precision"] == made.reported.values["answer_in_source"] == 1.0
    assert made.reported.values["R@1"] == 1.0


def test_what_cannot_be_measured_says_so(tmp_path: Path) -> None:
    place = collection(tmp_path / "collection", test=triplets(FREE))
    silent = tmp_path / "silent"
    silent.mkdir()
    write_outcome(silent, Run.from_dict({"d": {}}), None, 1.0)
    with pytest.raises(StageError, match="there are no answers to be measured"):
        answer_measures(context(tmp_path, collection=place, outcome=silent))
    unknown = collection(tmp_path / "unknown", test=triplets({"d": []}))
    with pytest.raises(StageError, match="no test question has an accepted answer"):
        answer_measures(context(tmp_path, "other", collection=unknown, outcome=silent))


# Reading


def reading(place: Path) -> tuple[Path, Path, Path]:
    """A collection, a saved FiD, and a run of the dev and test questions."""
    home = collection(place / "collection", dev=TRIPLETS[:3], test=TRIPLETS)
    model = place / "model"
    model.mkdir()
    toy_answerer("fid").save(model / READER)
    found = place / "found"
    found.mkdir()
    for split, asked in (("dev", TRIPLETS[:3]), ("test", TRIPLETS)):
        write_outcome(found, toy_run().select(item.query.id for item in asked), None, 1.0, split)
    return home, model, found


def test_a_reader_that_was_stopped_does_not_answer_twice(tmp_path: Path) -> None:
    home, model, found = reading(tmp_path)
    whole = context(tmp_path, "whole", collection=home, model=model, outcome=found)
    reader_answers(whole)
    again = context(tmp_path, "again", collection=home, model=model, outcome=found)
    [kept] = whole.scratch.glob("test-*.json")
    content = json.loads(kept.read_text())
    content["answers"][0]["answer"] = "as it was before"
    (again.scratch / kept.name).write_text(json.dumps(content))
    reader_answers(again)
    said, before = read_answers(again.folder), read_answers(whole.folder)
    assert said is not None
    assert before is not None
    assert said[0].text == "as it was before"
    assert said[1:] == before[1:]
    assert read_answers(again.folder, "dev") == read_answers(whole.folder, "dev")
    assert all(set(answer.passages) == set(toy_run().doc_ids(answer.query_id)) for answer in before)
    # Finding and reading: their seconds add up.
    assert float((whole.folder / "test.seconds").read_text()) > 1.0


def test_few_dev_questions_and_none(tmp_path: Path) -> None:
    home, model, found = reading(tmp_path)
    few = context(tmp_path, "few", collection=home, model=model, outcome=found)
    reader_answers(few, dev_questions=2)
    assert len(read_answers(few.folder, "dev") or ()) == 2
    (found / "dev.run").unlink()
    none = context(tmp_path, "none", collection=home, model=model, outcome=found)
    reader_answers(none)
    assert read_answers(none.folder, "dev") is None
    assert len(read_answers(none.folder) or ()) == len(TRIPLETS)


def test_closed_book_takes_no_passages_and_others_need_them(tmp_path: Path) -> None:
    home, model, found = reading(tmp_path)
    with pytest.raises(StageError, match="reads passages, and is given none"):
        reader_answers(context(tmp_path, "a", collection=home, model=model))
    with pytest.raises(StageError, match="a closed-book reader reads no run"):
        reader_train(context(tmp_path, "b", collection=home, run=found), "closed-book")
    with pytest.raises(StageError, match="rag-token reads passages, and is given no run"):
        reader_train(context(tmp_path, "c", collection=home), "rag-token")
    closed = tmp_path / "closed"
    closed.mkdir()
    toy_answerer("closed-book").save(closed / READER)
    with pytest.raises(StageError, match="reads no passages, and is given some"):
        reader_answers(context(tmp_path, "d", collection=home, model=closed, outcome=found))


# What is read


def test_training_questions_are_searched_for_like_others(tmp_path: Path) -> None:
    from retgen.lexical.bm25 import BM25

    home = collection(tmp_path / "collection", train=TRIPLETS)
    corpus = Corpus.open(home / "corpus")
    retriever = BM25.build(corpus)
    retriever.save(tmp_path / "bm25" / "index")
    made = context(tmp_path, collection=home, retriever=tmp_path / "bm25")
    training_search(made, k=3)
    run = read_run(made.folder / "train.run")
    expected = retriever.search(QUESTIONS, k=3)
    assert {name: run.doc_ids(name) for name in run} == {name: expected.doc_ids(name) for name in expected}
    few = context(tmp_path, "few", collection=home, retriever=tmp_path / "bm25")
    training_search(few, k=3, train_questions=2)
    assert len(read_run(few.folder / "train.run")) == 2


def test_a_perfect_search_finds_the_right_passage_first(tmp_path: Path) -> None:
    home, _, found = reading(tmp_path)
    made = context(tmp_path, collection=home, outcome=found)
    gold_outcome(made, k=3)
    run = read_run(made.folder / "test.run")
    for triplet in TRIPLETS:
        ids = list(run.doc_ids(triplet.query.id))
        assert ids[0] == triplet.doc_ids[0]
        assert len(set(ids)) == len(ids) == 3
        others = [doc_id for doc_id in toy_run().doc_ids(triplet.query.id) if doc_id != ids[0]]
        assert ids[1:] == others[:2]


# A language model


class Echo(PromptedWriter):
    """Writes how long its prompt is, and remembers the prompts."""

    def __init__(self, author: Author, asked: list[str]) -> None:
        super().__init__(author.model, prompts=author.prompt_templates())
        self.asked = asked
        self.ledger = Ledger(":memory:")

    def complete(self, requests: Iterable[CompletionRequest], total: int) -> list[Outcome]:
        prompts = [request.prompt for request in requests]
        self.asked += prompts
        return [Outcome(f"{len(prompt)} signs", "stop") for prompt in prompts]


@pytest.mark.parametrize("reads", [False, True])
def test_a_language_model_is_asked_bare_or_with_passages(tmp_path: Path, reads: bool) -> None:
    home, _, found = reading(tmp_path)
    asked: list[str] = []
    made = context(tmp_path, "stage", collection=home)
    made.inputs = {**made.inputs, **({"outcome": found} if reads else {})}
    with written_by(lambda author, _: Echo(author, asked)):
        prompted_answers(made, Author(model="echo"), passages=2)
    said = read_answers(made.folder)
    assert said
    assert [answer.text for answer in said] == [f"{len(prompt)} signs" for prompt in asked]
    texts = {document.id: document.text for document in DOCUMENTS}
    for query, prompt, answer in zip(QUESTIONS, asked, said, strict=True):
        if not reads:
            assert prompt == BARE.format(q=query.text)
            continue
        ids = toy_run().doc_ids(query.id)
        assert answer.passages == tuple(ids[:2])
        assert all(texts[doc_id] in prompt for doc_id in ids[:2])
        assert texts[ids[2]] not in prompt
