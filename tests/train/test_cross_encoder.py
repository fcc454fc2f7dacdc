"""Training a cross-encoder: it learns, by the losses that are named, and goes on where it was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retgen.errors import MismatchError, MissingExtraError, UnknownDocumentError, UsageError
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train import cross_encoder as module
from retgen.train.candidates import LabelledCandidates
from retgen.train.checkpoints import last_finished
from retgen.train.cross_encoder import CrossEncoderTraining, DevCandidates, train_cross_encoder
from retgen.train.fixed_batches import FixedBatches
from retgen.train.pair_stream import PairStream
from retgen.train.resumable import TrainingRecord
from retgen.types import Document, Query, Run
from tests.train.toy_pairs import (
    DOCUMENTS,
    same_weights,
    toy_candidates,
    toy_options,
    toy_reranker,
    weights,
)

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("sentence_transformers")


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def trained(
    folder: Path, *, stop_at: int | None = None, options: CrossEncoderTraining | None = None, outputs: int = 1
) -> tuple[CrossEncoder, TrainingRecord]:
    def report(step: int, steps: int, last: str) -> None:
        if step == stop_at:
            raise Stop

    reranker = toy_reranker(outputs=outputs)
    options = options or toy_options(negatives=3)
    return reranker, train_cross_encoder(
        reranker, toy_candidates(), DOCUMENTS, folder, options=options, progress=report
    )


def stream(**options: object) -> PairStream:
    given: dict[str, object] = {
        "objective": "binary", "batch_size": 8, "negatives": None, "epochs": 1.0, "max_steps": 0, "seed": 0, **options,
    }  # fmt: skip
    return PairStream(toy_candidates(), DOCUMENTS, **given)  # type: ignore[arg-type]


# The stream


def test_an_epoch_has_every_pair_once() -> None:
    expected = Counter((one.query.text, name) for one in toy_candidates() for name in one.passages)
    made = stream(epochs=2.0)
    half = len(made.batches) // 2
    for epoch in (made.batches[:half], made.batches[half:]):
        assert Counter((made.rows[row][0], made.rows[row][1][0]) for batch in epoch for row in batch) == expected
    assert made.batches[:half] != [[row - len(expected.keys()) for row in batch] for batch in made.batches[half:]]


def test_negatives_are_drawn_anew_and_positives_kept() -> None:
    made = stream(epochs=3.0, negatives=2)
    size = len(made.rows) // 3
    seen = [{(query, names) for query, names, _ in made.rows[size * n : size * (n + 1)]} for n in range(3)]
    assert [len(epoch) for epoch in seen] == [12 * 3] * 3
    assert seen[0] != seen[1]
    assert sum(labels[0] for _, _, labels in made.rows) == 3 * 12


def test_the_stream_follows_from_its_seed() -> None:
    one, other = stream(negatives=2, seed=1), stream(negatives=2, seed=1)
    assert (one.rows, one.batches) == (other.rows, other.batches)
    assert stream(negatives=2, seed=2).batches != one.batches


def test_steps_and_parts_of_epochs() -> None:
    assert len(stream().batches) == 9
    assert len(stream(max_steps=5).batches) == 5
    assert len(stream(max_steps=25).batches) == 25
    assert len(stream(epochs=1.5).batches) in (13, 14)
    assert len(stream(epochs=0.01).batches) == 1


def test_a_ranking_batch_has_whole_questions_and_about_so_many_pairs() -> None:
    made = stream(objective="ranking", batch_size=13)
    assert {len(batch) for batch in made.batches} == {2}
    row = made[made.batches[0][0]]
    assert len(row["passages"]) == len(row["label"]) == 6
    assert sorted(torch.tensor(row["label"]).softmax(0).tolist()) == [0.0] * 5 + [1.0]
    assert {len(batch) for batch in stream(objective="ranking", batch_size=1).batches} == {1}


def test_several_processes_get_equally_many_full_batches() -> None:
    made = stream(batch_size=10)
    assert [len(batch) for batch in FixedBatches(made)] == [10] * 7 + [2]
    assert [len(batch) for batch in FixedBatches(made, processes=2)] == [10] * 6


# The loss


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("objective", ["binary", "ranking"])
def test_the_loss_is_the_named_one_over_the_reranker_own_logits(objective: str, outputs: int, tmp_path: Path) -> None:
    reranker = toy_reranker(outputs=outputs, dropout=0.0)
    documents = {name: replace(document, text=document.text * 9) for name, document in DOCUMENTS.items()}
    candidates = [replace(one, query=Query(one.query.id, one.query.text * 5)) for one in toy_candidates(4)]
    pairs = [(one.query.text, documents[name].contents) for one in candidates for name in one.passages]
    labels = torch.tensor([[float(label) for label in one.labels] for one in candidates])
    with torch.no_grad():
        logits = reranker.logits(reranker.encode(pairs)).view(labels.shape)
    if objective == "binary":
        expected = functional.binary_cross_entropy_with_logits(logits, labels)
    else:
        expected = functional.cross_entropy(logits, labels.argmax(1))
    options = toy_options(objective=objective, batch_size=24, max_steps=1)
    record = train_cross_encoder(reranker, candidates, documents, tmp_path, options=options)
    assert record.history[-1]["train_loss"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(("objective", "outputs"), [("binary", 1), ("binary", 2), ("ranking", 1)])
def test_it_learns(objective: str, outputs: int, tmp_path: Path) -> None:
    reranker = toy_reranker(outputs=outputs, dropout=0.0)
    dev = DevCandidates.from_candidates(toy_candidates(20), DOCUMENTS)
    before = dev.measure(reranker)
    options = toy_options(objective=objective, epochs=10.0, batch_size=12, learning_rate=5e-3, save_steps=1000)
    record = train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=options, dev=dev)
    after = dev.measure(reranker)
    # Chance is 0.41.
    assert before["RR@10"] < 0.75
    assert after["RR@10"] > 0.8
    assert after["score"] == after["RR@10"]
    assert not reranker.model.training
    # Measured at the end of training too, through the re-ranker itself.
    measured = [row for row in record.history if "eval_Success@1" in row]
    assert measured[-1]["eval_RR@10"] == pytest.approx(after["RR@10"])


def test_dev_counts_questions_that_the_first_stage_failed() -> None:
    found = DevCandidates([Query("a", "?"), Query("b", "?")], Run.from_dict({"a": {"d0": 1.0}, "b": {"d1": 1.0}}),
                          {"a": {"d0": 1}, "b": {"d9": 1}}, DOCUMENTS).measure(toy_reranker())  # fmt: skip
    assert found == {"Success@1": 0.5, "RR@10": 0.5, "score": 0.5}


def test_keep_best_ends_with_the_best_and_says_so_again(tmp_path: Path) -> None:
    dev = DevCandidates.from_candidates(toy_candidates(20), DOCUMENTS)
    # So high a rate spoils what was learnt.
    options = toy_options(learning_rate=5e-2, eval_steps=2, keep_best=True, max_steps=8, warmup_steps=2)
    reranker = toy_reranker()
    record = train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=options, dev=dev)
    scores = [row["eval_score"] for row in record.history if "eval_score" in row]
    assert dev.measure(reranker)["score"] == pytest.approx(max(scores))
    again = toy_reranker(seed=5)
    train_cross_encoder(again, toy_candidates(), DOCUMENTS, tmp_path, options=options, dev=dev)
    assert same_weights(weights(again), weights(reranker))


def test_frozen_layers_keep_their_weights_and_are_free_again(tmp_path: Path) -> None:
    reranker = toy_reranker()
    before = weights(reranker)
    options = toy_options(frozen_layers=1, max_steps=2)
    train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=options)
    kept = {name for name, value in weights(reranker).items() if torch.equal(value, before[name])}
    assert {name for name in before if "embeddings." in name or ".layer.0." in name} <= kept
    assert not any(".layer.1." in name and name.endswith("weight") for name in kept)
    assert all(parameter.requires_grad for parameter in reranker.model.parameters())


def test_the_attention_of_training_is_put_back(tmp_path: Path) -> None:
    reranker = toy_reranker()
    usual = reranker.model.config._attn_implementation
    options = toy_options(attn_implementation="eager", max_steps=1)
    train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=options)
    assert reranker.model.config._attn_implementation == usual != "eager"


# Stopping and going on


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    reranker, record = trained(tmp_path_factory.mktemp("whole"))
    assert record.steps == 12
    return weights(reranker)


# An epoch has six steps, checkpoints four: before any checkpoint; within the first epoch; within the second.
@pytest.mark.parametrize("stop_at", [3, 5, 10])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor], stop_at: int) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    reranker, record = trained(tmp_path)
    assert record.steps == 12
    assert same_weights(weights(reranker), whole)
    # Finished: not trained further.
    again, record = trained(tmp_path)
    assert record.steps == 12
    assert same_weights(weights(again), whole)


@pytest.mark.slow  # most of it the other process' imports
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    command = [sys.executable, "-m", "tests.train.killed_pairs", str(tmp_path), "7", str(torch.get_num_threads())]
    ended = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    resumed_from = last_finished(tmp_path)
    assert resumed_from is not None
    assert resumed_from.path.name == "checkpoint-4"
    assert same_weights(weights(trained(tmp_path)[0]), whole)


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=5)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, options=toy_options(negatives=2))


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, options=toy_options(max_steps=2))
    assert capfd.readouterr().out == ""


# Bad input


def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = toy_reranker()
    with pytest.raises(UsageError, match="nothing to train on"):
        train_cross_encoder(reranker, [], DOCUMENTS, tmp_path)
    with pytest.raises(UsageError, match="no relevant candidate"):
        train_cross_encoder(reranker, [LabelledCandidates(Query("q", "?"), ("d0",), (0,))], DOCUMENTS, tmp_path)
    with pytest.raises(UsageError, match="dev questions"):
        train_cross_encoder(
            reranker, toy_candidates(), DOCUMENTS, tmp_path, options=toy_options(keep_best=True, eval_steps=1)
        )
    with pytest.raises(UnknownDocumentError):
        train_cross_encoder(reranker, toy_candidates(), {"x": Document("x", "")}, tmp_path)
    with pytest.raises(UsageError, match="cannot freeze 3 layers"):
        train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=toy_options(frozen_layers=3))
    half = CrossEncoder(toy_reranker().model, reranker.tokenizer, device="cpu", dtype="bf16")
    with pytest.raises(UsageError, match="bfloat16"):
        train_cross_encoder(half, toy_candidates(), DOCUMENTS, tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"retgen\[dense\]"):
        train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "other"},
        {"precision": "int8"},
        {"batch_size": 0},
        {"save_steps": 0},
        {"negatives": 0},
        {"max_steps": -1},
        {"learning_rate": 0.0},
        {"epochs": 0.0},
        {"warmup_steps": -0.1},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CrossEncoderTraining(**options)  # type: ignore[arg-type]
