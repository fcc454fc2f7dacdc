"""FiD, RAG and closed book as answerers: the shared suite, citations, saving, calibrated answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from retgen.answer.answerable import Calibrated, abstain, answerable, calibrate, rightness, with_answerable
from retgen.answer.citations import as_it_stands, citations_of, cite
from retgen.answer.closed_book import ClosedBook
from retgen.answer.fid import FiD
from retgen.answer.folder import open_reader
from retgen.answer.rag import Rag
from retgen.answer.reading import ReadingAnswerer
from retgen.errors import ArtefactError, FormatError, MismatchError, UsageError
from retgen.evaluate import Calibration, expected_calibration_error
from retgen.lexical import BM25
from retgen.models.closed_book import ClosedBookReader
from retgen.models.fid import FiDReader
from retgen.models.rag import RagReader
from retgen.models.reader_format import ReaderFormat
from retgen.types import Answer, Document, Query, Run
from tests.conformance import ANSWERER_CHECKS, CORPUS, DOCUMENTS, QUERIES, first_run, name_of
from tests.models.generators import seq2seq

FORMAT = ReaderFormat(max_input_tokens=120, max_question_tokens=60, max_answer_tokens=6)


def answerer(method: str, kind: str = "t5", **options: Any) -> ReadingAnswerer:
    model, tokenizer = seq2seq(kind)
    if method == "closed-book":
        return ClosedBook(ClosedBookReader(model, tokenizer, FORMAT), **options)
    if method == "fid":
        return FiD(FiDReader(model, tokenizer, FORMAT), passages=3, **options)
    return Rag(RagReader(model, tokenizer, FORMAT, marginal=method.removeprefix("rag-")), passages=3, **options)


METHODS = ("closed-book", "fid", "rag-sequence", "rag-token")


@pytest.mark.parametrize("check", ANSWERER_CHECKS, ids=name_of)
@pytest.mark.parametrize("method", METHODS)
def test_it_conforms(check: Callable[..., None], method: str) -> None:
    check(lambda: answerer(method), tolerance=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_small_batches_answer_the_same(method: str) -> None:
    plenty = answerer(method).answer(QUERIES, first_run(), CORPUS)
    few = answerer(method, batch_tokens=1).answer(QUERIES, first_run(), CORPUS)
    assert [(a.text, a.source) for a in plenty] == [(a.text, a.source) for a in few]


@pytest.mark.parametrize("method", METHODS)
def test_progress_reaches_the_number_of_queries(method: str) -> None:
    said: list[tuple[int, int]] = []
    answerer(method, batch_tokens=200).answer(QUERIES, first_run(), CORPUS, progress=lambda *told: said.append(told))
    assert said[-1] == (len(QUERIES), len(QUERIES))
    assert said == sorted(said)
    nothing: list[tuple[int, int]] = []
    silent = Run([QUERIES[0].id], [[]], [[]])
    answerer(method).answer(QUERIES[:1], silent, CORPUS, progress=lambda *told: nothing.append(told))
    assert nothing[-1] == (1, 1)


def test_it_stands_in_a_pipeline() -> None:
    result = (BM25.build(list(DOCUMENTS)) >> answerer("fid")).over(CORPUS)(QUERIES[:2], k=5)
    for answer in result.answers:
        assert list(answer.passages) == result.run.doc_ids(answer.query_id)[:3]


# What is read


def test_closed_book_needs_and_reads_no_passage() -> None:
    class Forbidden(dict[str, Document]):
        def __getitem__(self, name: str) -> Document:
            raise AssertionError("a passage was read")

    made = answerer("closed-book")
    alone = made.answer(QUERIES, None, None)
    beside = made.answer(QUERIES, first_run(), Forbidden(CORPUS))
    assert alone == beside
    assert all(answer.passages == () and answer.source is None for answer in alone)


@pytest.mark.parametrize("method", ["fid", "rag-sequence", "rag-token"])
def test_only_the_first_passages_are_read_and_each_of_them_matters(method: str) -> None:
    made = answerer(method)
    other = Document("other", "The Nile flows through Egypt into the sea. " * 3, "Nile")
    ids = ["everest", "nile", "umlaut", "gold"]
    before = made.answer(
        QUERIES[3:4], Run.from_dict({"height": dict(zip(ids, (4.0, 3.9, 3.8, 3.7), strict=True))}), CORPUS
    )
    for place, doc_id in enumerate(ids):
        run = Run(["height"], [ids], [[4.0, 3.9, 3.8, 3.7]])
        after = made.answer(QUERIES[3:4], run, {**CORPUS, doc_id: other})
        assert (abs(after[0].score - before[0].score) > 1e-5) == (place < 3), doc_id


def test_ragged_runs_keep_their_order_and_scores_are_log_probabilities() -> None:
    for method in METHODS:
        for answer in answerer(method).answer(QUERIES, first_run(), CORPUS):
            assert answer.score <= 0.0
            assert method == "closed-book" or list(answer.passages) == first_run().doc_ids(answer.query_id)[:3]


# Citations


@pytest.mark.parametrize("method", ["fid", "rag-sequence", "rag-token"])
def test_citations_say_where_an_answer_stands(method: str) -> None:
    for answer in answerer(method, "warm").answer(QUERIES, first_run(), CORPUS):
        citations = citations_of(answer)
        assert {citation.doc_id for citation in citations} == set(answer.passages)
        if not answer.passages:
            assert (answer.text, answer.source) == ("", None)
            continue
        assert sum(citation.share for citation in citations) == pytest.approx(1.0, abs=1e-4)
        assert answer.source == (citations[0].doc_id if answer.text else None)
        json.dumps(dict(answer.details))
        for citation in citations:
            if citation.start is not None:
                assert CORPUS[citation.doc_id].text[citation.start : citation.end]
        if citations[0].start is not None:
            assert answer.details["start"] == citations[0].start


def test_an_answer_is_cited_where_it_stands_before_where_most_attention_went() -> None:
    passages = [Document("a", "It is high."), Document("b", "Everest lies in NEPAL, in nepal."), Document("c", "Nepal")]
    found = cite("Nepal", passages, [0.6, 0.3, 0.1])
    assert [(citation.doc_id, citation.start, citation.end) for citation in found] == [
        ("b", 16, 21),
        ("c", 0, 5),
        ("a", None, None),
    ]
    assert [citation.doc_id for citation in cite("", passages, [0.1, 0.1, 0.8])] == ["c", "a", "b"]


def test_an_answer_gets_back_what_the_tokenizer_lost() -> None:
    _, lower = seq2seq("warm")
    written = str(lower.decode(lower("Joseph PRIESTLEY", add_special_tokens=False)["input_ids"]))
    assert as_it_stands(written, "Joseph PRIESTLEY", lower) == "Joseph PRIESTLEY"
    assert as_it_stands("someone else", "Joseph PRIESTLEY", lower) == "someone else"


# Saving


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_answers_the_same(tmp_path: Path, method: str) -> None:
    made = answerer(method, num_beams=2, calibration=Calibration(0.5, 1.0, 7))
    made.history = [{"step": 1.0, "loss": 2.5}]
    made.save(tmp_path / "reader")
    opened = open_reader(tmp_path / "reader", device="cpu", dtype="fp32")
    assert type(opened) is type(made)
    assert type(made).open(tmp_path / "reader", device="cpu", dtype="fp32").reader.settings == made.reader.settings
    assert opened.answer(QUERIES, first_run(), CORPUS) == made.answer(QUERIES, first_run(), CORPUS)
    assert (opened.passages, opened.num_beams, opened.calibration) == (made.passages, 2, made.calibration)
    assert opened.reader.format == FORMAT
    assert opened.history == made.history
    weights = made.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in opened.model.state_dict().items())


def test_folders_of_other_kinds_are_refused(tmp_path: Path) -> None:
    answerer("fid").save(tmp_path / "fid")
    with pytest.raises(FormatError, match="holds a FiD, not a Rag"):
        Rag.open(tmp_path / "fid", device="cpu")
    with pytest.raises(ArtefactError):
        answerer("fid").save(tmp_path / "fid")
    answerer("rag-token").save(tmp_path / "fid", overwrite=True)
    assert Rag.open(tmp_path / "fid", device="cpu").reader.settings["marginal"] == "token"
    (tmp_path / "fid" / "settings.json").write_text("{}")
    with pytest.raises(ArtefactError):
        open_reader(tmp_path / "fid", device="cpu")


def test_any_source_of_models_will_do(tmp_path: Path) -> None:
    texts = [document.contents for document in DOCUMENTS]
    torch.manual_seed(0)
    made = FiD.from_pretrained("scratch:tiny", texts=texts * 30, format=FORMAT, passages=2, device="cpu", dropout=0.0)
    assert made.answer(QUERIES[:1], first_run(), CORPUS)[0].query_id == "who"
    with pytest.raises(UsageError, match="no option 'copy_head'"):
        FiD.from_pretrained("scratch:tiny", texts=texts, copy_head=True)
    rag = Rag.from_pretrained("scratch:tiny", texts=texts, format=FORMAT, reader_options={"marginal": "token"})
    assert rag.reader.settings == {"marginal": "token", "temperature": 1.0}


# Calibrated answers


def graded(questions: int, start: int) -> tuple[list[Answer], dict[str, list[str]]]:
    """Answers whose scores claim more than they keep: of those at e^−0.1, fewer than half are right."""
    answers, gold = [], {}
    for number in range(start, start + questions):
        score = -0.1 - 0.3 * (number % 7)
        right = (number * 7919) % 100 < 45 - 6 * (number % 7)
        answers.append(Answer(f"q{number}", "right" if right else "wrong", score))
        gold[f"q{number}"] = ["right"]
    return answers, gold


def test_calibration_improves_the_error_on_held_out_questions() -> None:
    fitted = calibrate(*graded(350, 0))
    answers, gold = graded(350, 1000)
    right = list(rightness(answers, gold).values())
    raw = expected_calibration_error([float(torch.tensor(answer.score).exp()) for answer in answers], right)
    calibrated = [answerable(answer) for answer in with_answerable(answers, fitted)]
    assert expected_calibration_error(calibrated, right) < 0.25 * raw


class Says:
    """An answerer with answers that are given to it."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = answers

    def answer(self, queries: Sequence[Query], run: Run | None, documents: Any) -> list[Answer]:
        return list(self.answers)


def test_unlikely_answers_are_withheld() -> None:
    said = [Answer("a", "yes", -0.5, source="d"), Answer("b", "no", -4.0, source="d"), Answer("c", "", 0.0)]
    calibration = Calibration(1.0, 1.0, 10)
    found = Calibrated(Says(said), calibration, threshold=0.5).answer([], None, None)
    assert [answer.text for answer in found] == ["yes", "", ""]
    assert [answer.source for answer in found] == ["d", None, None]
    assert found[1].details["withheld"] == "no"
    assert answerable(found[2]) == 0.0
    assert found[0].details["answerable"] == pytest.approx(calibration.probability(-0.5))
    assert [a.text for a in Calibrated(Says(said), calibration).answer([], None, None)] == ["yes", "no", ""]
    with pytest.raises(UsageError, match="no calibrated probability"):
        abstain(said, 0.5)


def test_a_calibrated_reader_says_how_likely_it_is_right() -> None:
    made = answerer("fid", calibration=Calibration(1.0, 1.0, 10))
    for answer in made.answer(QUERIES, first_run(), CORPUS):
        assert 0.0 <= answerable(answer) <= 1.0
        assert (answerable(answer) == 0.0) == (answer.text == "")


def test_what_cannot_be_calibrated_is_named() -> None:
    answers, gold = graded(3, 0)
    with pytest.raises(UsageError, match="no gold answers"):
        calibrate(answers, {})
    with pytest.raises(UsageError, match="at least two"):
        calibrate(answers[:1], gold)
    with pytest.raises(UsageError, match="no value per question"):
        calibrate(answers, gold, "BLEU-1")


# Bad input


def test_bad_input_is_named() -> None:
    made = answerer("fid")
    with pytest.raises(UsageError, match="reads retrieved passages"):
        made.answer(QUERIES, None, None)
    with pytest.raises(UsageError, match="lacks the query 'who'"):
        made.answer(QUERIES[:1], Run([], [], []), CORPUS)
    with pytest.raises(UsageError, match="at least 1"):
        answerer("fid", num_beams=0)
    with pytest.raises(UsageError, match="needs a RagReader"):
        Rag(made.reader)

    class Other(dict[str, Document]):
        fingerprint = "another"

    with pytest.raises(MismatchError):
        made.answer(QUERIES, first_run(), Other(CORPUS))


def test_a_model_in_training_answers_as_in_evaluation_and_goes_on_training() -> None:
    model, tokenizer = seq2seq("t5")
    made = FiD(FiDReader(copy.deepcopy(model).train(), tokenizer, FORMAT), passages=3)
    assert made.answer(QUERIES, first_run(), CORPUS) == answerer("fid").answer(QUERIES, first_run(), CORPUS)
    assert made.model.training
