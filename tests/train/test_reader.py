"""One trainer for closed book, FiD and RAG: it learns, resumes to the bit, and reads what it is given."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from retgen.answer.fid import FiD
from retgen.answer.reading import ReadingAnswerer
from retgen.corpus import Corpus
from retgen.errors import MismatchError, UnknownDocumentError, UsageError
from retgen.models.fid import FiDReader
from retgen.train.checkpoints import last_finished
from retgen.train.epochs import EpochDataset
from retgen.train.reader import ReaderTraining, train_reader
from retgen.train.reader_examples import ReaderCollator, ReaderExample, reader_examples
from retgen.train.resumable import TrainingRecord
from retgen.types import Query, Run, Triplet
from tests.models.generators import seq2seq
from tests.train.toy import CORPUS, QUESTIONS, TRIPLETS, same_weights
from tests.train.toy_readers import (
    FORMAT,
    METHODS,
    reader_weights,
    toy_answerer,
    toy_reader_dev,
    toy_reader_examples,
    toy_reader_options,
    toy_run,
)

ROOT = Path(__file__).resolve().parents[2]


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def trained(
    folder: Path, method: str = "fid", *, stop_at: int | None = None, **options: Any
) -> tuple[ReadingAnswerer, TrainingRecord]:
    def report(step: int, steps: int, last: str) -> None:
        if step == stop_at:
            raise Stop

    answerer = toy_answerer(method)
    record = train_reader(
        answerer, toy_reader_examples(method), CORPUS, folder, options=toy_reader_options(**options), progress=report
    )
    return answerer, record


# Learning


@pytest.mark.parametrize("method", list(METHODS))
def test_it_learns_the_answers(tmp_path: Path, method: str) -> None:
    answerer = toy_answerer(method, dropout=0.0)
    before = toy_reader_dev().measure(answerer)
    record = train_reader(
        answerer,
        toy_reader_examples(method),
        CORPUS,
        tmp_path,
        options=toy_reader_options(max_steps=60, batch_size=8, learning_rate=1e-2, save_steps=1000, eval_steps=60),
        dev=toy_reader_dev(),
    )
    after = toy_reader_dev().measure(answerer)
    assert before["EM"] == 0.0
    assert after["EM"] >= 0.75
    assert after["score"] == after["EM"]
    assert record.history[-1].get("eval_EM", record.history[-2].get("eval_EM")) == pytest.approx(after["EM"])
    assert not answerer.model.training


@pytest.mark.parametrize("kind", ["warm", "bart"])
def test_other_families_are_trained_too(tmp_path: Path, kind: str) -> None:
    model, tokenizer = seq2seq(kind)
    answerer = FiD(FiDReader(copy.deepcopy(model), tokenizer, FORMAT), passages=2)
    options = toy_reader_options(
        max_steps=12, batch_size=8, learning_rate=1e-2, gradient_checkpointing=True, eval_steps=4
    )
    record = train_reader(answerer, toy_reader_examples("fid"), CORPUS, tmp_path, options=options, dev=toy_reader_dev())
    losses = [row["loss"] for row in record.history if "loss" in row]
    assert losses[-1] < losses[0]


# Resuming


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return reader_weights(trained(tmp_path_factory.mktemp("whole"))[0])


# Epochs have three steps, checkpoints two: before any checkpoint, within an epoch, at an epoch's end.
@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor], stop_at: int) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    answerer, record = trained(tmp_path)
    assert record.steps == 8
    assert same_weights(reader_weights(answerer), whole)
    # Finished: not trained further, and its weights are there.
    again, record = trained(tmp_path, stop_at=1)
    assert record.steps == 8
    assert same_weights(reader_weights(again), whole)


@pytest.mark.parametrize("method", ["closed-book", "rag-sequence", "rag-token"])
def test_every_method_resumes(tmp_path: Path, method: str) -> None:
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", method, stop_at=3, max_steps=4)
    one, other = (trained(tmp_path / name, method, max_steps=4)[0] for name in ("stopped", "whole"))
    assert same_weights(reader_weights(one), reader_weights(other))


def test_accumulated_steps_resume_too(tmp_path: Path) -> None:
    options = {"max_steps": 4, "batch_size": 2, "accumulation_steps": 2, "save_steps": 1}
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", stop_at=3, **options)
    one, other = (trained(tmp_path / name, **options)[0] for name in ("stopped", "whole"))
    assert same_weights(reader_weights(one), reader_weights(other))


@pytest.mark.slow  # most of it the other process' imports
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    saved, folder = tmp_path / "untrained", tmp_path / "training"
    toy_answerer("fid").save(saved)
    command = [sys.executable, "-m", "tests.train.killed_reader", folder, "7", str(torch.get_num_threads()), saved]
    ended = subprocess.run(list(map(str, command)), cwd=ROOT, env=dict(os.environ), capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    resumed_from = last_finished(folder)
    assert resumed_from is not None
    assert resumed_from.path.name == "checkpoint-6"
    assert same_weights(reader_weights(trained(folder)[0]), whole)


def test_the_best_checkpoint_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    scores = [0.1, 0.9, 0.3, 0.2]

    def said(_dev: object, answerer: ReadingAnswerer) -> dict[str, float]:
        seen.append(reader_weights(answerer))
        return {"score": scores[len(seen) - 1]}

    monkeypatch.setattr("retgen.train.reader.ReaderDev.measure", said)
    options = toy_reader_options(eval_steps=2, keep_best=True)
    for _ in range(2):  # and again, from the finished folder
        answerer = toy_answerer("fid")
        train_reader(answerer, toy_reader_examples("fid"), CORPUS, tmp_path, options=options, dev=toy_reader_dev())
        assert same_weights(reader_weights(answerer), seen[1])
    assert len(seen) == 4


def test_being_measured_and_checkpointing_change_nothing(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    answerer = toy_answerer("fid")
    train_reader(
        answerer, toy_reader_examples("fid"), CORPUS, tmp_path, options=toy_reader_options(eval_steps=3),
        dev=toy_reader_dev(),
    )  # fmt: skip
    assert same_weights(reader_weights(answerer), whole)
    other, _ = trained(tmp_path / "checkpointing", gradient_checkpointing=True)
    for name, value in reader_weights(other).items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-4)
    assert not any(getattr(part, "gradient_checkpointing", False) for part in other.model.modules())


def test_another_training_does_not_resume(tmp_path: Path) -> None:
    trained(tmp_path, max_steps=2)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, max_steps=4)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, "rag-token", max_steps=2)
    with pytest.raises(MismatchError, match="another training"):
        train_reader(
            toy_answerer("fid"), toy_reader_examples("fid")[1:], CORPUS, tmp_path,
            options=toy_reader_options(max_steps=2),
        )  # fmt: skip


def test_nothing_is_printed_and_progress_says_what_was_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[tuple[int, int, str]] = []
    train_reader(
        toy_answerer("fid"), toy_reader_examples("fid"), CORPUS, tmp_path,
        options=toy_reader_options(max_steps=3, eval_steps=1), dev=toy_reader_dev(),
        progress=lambda *told: said.append(told),
    )  # fmt: skip
    assert [told[:2] for told in said] == [(step, 3) for step in (1, 2, 3)]
    assert "loss" in said[-1][2]
    assert "EM" in said[-1][2]
    assert capfd.readouterr() == ("", "")


# Examples


def test_examples_hold_the_runs_first_passages() -> None:
    examples = reader_examples(TRIPLETS, toy_run(), passages=2)
    assert [example.doc_ids for example in examples] == [tuple(toy_run().doc_ids(q.id)[:2]) for q in QUESTIONS]
    assert examples[0].scores == (2.0, 1.5)
    assert reader_examples(TRIPLETS)[0] == ReaderExample("Who found oxygen?", ("Joseph Priestley",))
    # The third has its relevant passage in the third place.
    fixed = reader_examples(TRIPLETS, toy_run(), passages=2, with_relevant=True)
    assert fixed[2].doc_ids == (examples[2].doc_ids[0], "gold")
    assert fixed[2].scores == examples[2].scores
    assert fixed[:2] == examples[:2]


def test_what_cannot_be_read_or_answered_is_left_out() -> None:
    triplets = [
        Triplet(Query("a", "a?"), (), ("x",)),
        Triplet(Query("b", "b?"), ("yes",), ()),
        Triplet(Query("c", "c?"), ("no",), ("x",)),
    ]
    run = Run(["a", "b", "c"], [["x"], [], []], [[1.0], [], []])
    assert [example.question for example in reader_examples(triplets, run)] == []
    assert reader_examples(triplets, run, with_relevant=True) == [ReaderExample("c?", ("no",), ("x",), (0.0,))]
    with pytest.raises(UsageError, match="lacks the question 'b'"):
        reader_examples(triplets, run.select(["a"]))
    with pytest.raises(UsageError, match="at least one passage"):
        reader_examples(triplets, run, passages=0)


def test_answers_are_drawn_anew_every_epoch_and_alike_after_a_resume() -> None:
    answerer = toy_answerer("fid")
    examples = [ReaderExample("who?", tuple(f"answer {n}" for n in range(8)), ("mars",), (1.0,))] * 6
    collator = ReaderCollator(answerer.reader, CORPUS)
    dataset = EpochDataset(examples)
    drawn = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        drawn.append(collator([dataset[number] for number in range(6)])["labels"].tolist())
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    assert len({tuple(row) for row in drawn[0]}) > 1
    first = ReaderCollator(answerer.reader, CORPUS, sample_answers=False)([dataset[number] for number in range(6)])
    assert len({tuple(row) for row in first["labels"].tolist()}) == 1


def test_a_closed_book_training_reads_no_passage(tmp_path: Path) -> None:
    class Forbidden(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError("a passage was read")

    options = toy_reader_options(max_steps=2)
    one, other = toy_answerer("closed-book"), toy_answerer("closed-book")
    train_reader(one, toy_reader_examples("closed-book"), None, tmp_path / "none", options=options)
    train_reader(other, toy_reader_examples("closed-book"), Forbidden(CORPUS), tmp_path / "some", options=options)
    assert same_weights(reader_weights(one), reader_weights(other))


# Bad input


def test_bad_input_is_named(tmp_path: Path) -> None:
    examples = toy_reader_examples("fid")
    for match, given, documents in (
        ("nothing to train on", [], CORPUS),
        ("has no passage", toy_reader_examples("closed-book"), CORPUS),
        ("no answer", [ReaderExample("who?", (), ("mars",), (1.0,))], CORPUS),
        ("no documents", examples, None),
    ):
        with pytest.raises(UsageError, match=match):
            train_reader(toy_answerer("fid"), given, documents, tmp_path)
    with pytest.raises(UsageError, match="dev questions"):
        train_reader(
            toy_answerer("fid"), examples, CORPUS, tmp_path, options=toy_reader_options(keep_best=True, eval_steps=1)
        )
    half = toy_answerer("fid")
    half.model.to(torch.bfloat16)
    with pytest.raises(UsageError, match="bfloat16"):
        train_reader(half, examples, CORPUS, tmp_path)


def test_a_missing_passage_is_named(tmp_path: Path) -> None:
    built = Corpus.build([CORPUS["mars"]], tmp_path / "corpus")
    with pytest.raises(UnknownDocumentError):
        train_reader(toy_answerer("fid"), toy_reader_examples("fid"), built, tmp_path / "training")


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "fp8"},
        {"batch_size": 0},
        {"accumulation_steps": 0},
        {"learning_rate": 0.0},
        {"fresh_learning_rate": -1.0},
        {"weight_decay": -1.0},
        {"max_steps": 0, "epochs": 0.0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ReaderTraining(**wrong)
