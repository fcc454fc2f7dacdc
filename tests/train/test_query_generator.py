"""Training a query generator: it learns, resumes to the bit, leaves alone what is frozen, and encodes passages once."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from retgen.errors import MismatchError, UsageError
from retgen.models.prompt_format import PRESETS
from retgen.models.query_generator import QueryGenerator
from retgen.train.query_batches import PairCollator, PassageQuery
from retgen.train.query_generator import (
    GeneratorTraining,
    log_likelihood_per_token,
    pair_loss,
    train_query_generator,
)
from retgen.train.resumable import TrainingRecord
from retgen.train.sampling import LengthBucketSampler
from tests.models.generators import SEQ2SEQ, seq2seq
from tests.train.toy import DOCUMENTS as PASSAGES
from tests.train.toy import FACTS

# Two queries of every passage, of which four passages have a third: 20 pairs of 8 passages.
PAIRS: list[PassageQuery] = [
    *((passage, fact[3]) for passage, fact in zip(PASSAGES, FACTS, strict=True)),
    *((passage, f"what about {passage.title}") for passage in PASSAGES),
    *((passage, f"tell me of {passage.title}") for passage in PASSAGES[:4]),
]
DEV: list[PassageQuery] = [(PASSAGES[0], "who discovered oxygen"), (PASSAGES[5], "the moons of Mars")]


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def model_of(kind: str = "warm", *, dropout: float = 0.0) -> tuple[Any, PreTrainedTokenizerBase]:
    model, tokenizer = seq2seq(kind)
    fresh = copy.deepcopy(model)
    for module in fresh.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return fresh, tokenizer


def short(**options: Any) -> GeneratorTraining:
    chosen: dict[str, Any] = {
        "max_steps": 8, "batch_size": 6, "learning_rate": 3e-3, "warmup_steps": 2, "save_steps": 2,
        "precision": "fp32", **options,
    }  # fmt: skip
    return GeneratorTraining(**chosen)


def trained(
    folder: Path, *, stop_at: int | None = None, dropout: float = 0.1, kind: str = "warm", **options: Any
) -> tuple[PreTrainedModel, TrainingRecord]:
    def report(step: int, steps: int, last: str) -> None:
        if step == stop_at:
            raise Stop

    model, tokenizer = model_of(kind, dropout=dropout)
    record = train_query_generator(model, tokenizer, PAIRS, folder, options=short(**options), progress=report)
    return model, record


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same_weights(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Batches


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_the_loss_is_what_scoring_says(kind: str) -> None:
    # Grouped by passage in the loss; pair by pair in the log-likelihoods.
    model, tokenizer = model_of(kind)
    generator = QueryGenerator(model.eval(), tokenizer)
    batch = PairCollator(generator)(PAIRS)
    assert len(batch["input_ids"]) == len(PASSAGES)
    assert batch["rows"].tolist() == [PASSAGES.index(passage) for passage, _ in PAIRS]
    loss = pair_loss(model, **batch).item()
    assert loss == pytest.approx(-log_likelihood_per_token(generator, PAIRS), abs=1e-5)
    tokens = [len(generator.query_ids([query])[0]) for _, query in PAIRS]
    apart = [pair_loss(model, **PairCollator(generator)([pair])).item() for pair in PAIRS]
    assert loss == pytest.approx(sum(n * one for n, one in zip(tokens, apart, strict=True)) / sum(tokens), abs=1e-5)


def test_gradients_of_grouped_passages_are_those_of_repeated_ones() -> None:
    grads = []
    for grouped in (True, False):
        model, tokenizer = model_of()
        batch = PairCollator(QueryGenerator(model.eval(), tokenizer))(PAIRS)
        if not grouped:
            rows = batch["rows"]
            batch["input_ids"], batch["attention_mask"] = batch["input_ids"][rows], batch["attention_mask"][rows]
            batch["rows"] = torch.arange(len(rows))
        pair_loss(model, **batch).backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_passages_and_queries_are_written_as_the_format_says() -> None:
    model, tokenizer = model_of("t5")
    preset = PRESETS["upr"]
    batch = PairCollator(QueryGenerator(model.eval(), tokenizer, preset))(PAIRS[:1])
    assert batch["input_ids"].tolist() == preset.passage_ids(tokenizer, PASSAGES[:1])
    assert batch["labels"].tolist() == preset.query_ids(tokenizer, [PAIRS[0][1]])
    assert batch["decoder_input_ids"][0].tolist() == [0, *batch["labels"][0][:-1].tolist()]


@pytest.mark.parametrize("batch_size", [4, 7])
def test_the_queries_of_a_passage_stand_in_one_batch(batch_size: int) -> None:
    groups = [number % 30 for number in range(100)]
    lengths = [group // 3 for group in groups]
    sampler = LengthBucketSampler(lengths, batch_size, 0, chunk=3, groups=groups)
    order = list(sampler)
    assert sorted(order) == list(range(100))
    assert order == list(sampler)
    sampler.set_epoch(1)
    assert order != list(sampler)
    # A passage with 3 or 4 queries is cut by a batch's or a chunk's end at most.
    batches = [order[start : start + batch_size] for start in range(0, 100, batch_size)]
    encoded = sum(len({groups[item] for item in batch}) for batch in batches)
    assert encoded <= 30 + len(batches)
    mixed = list(LengthBucketSampler(lengths, batch_size, 0, chunk=3))
    apart = [mixed[start : start + batch_size] for start in range(0, 100, batch_size)]
    assert encoded < sum(len({groups[item] for item in batch}) for batch in apart)


# Training


@pytest.mark.parametrize(("kind", "rate"), [("warm", 1e-2), ("t5", 2e-2), ("bart", 1e-2)])
def test_the_loss_falls_and_dev_queries_become_likelier(tmp_path: Path, kind: str, rate: float) -> None:
    model, tokenizer = model_of(kind)
    before = log_likelihood_per_token(QueryGenerator(model.eval(), tokenizer), DEV)
    record = train_query_generator(
        model,
        tokenizer,
        PAIRS,
        tmp_path,
        options=short(max_steps=60, batch_size=10, learning_rate=rate, save_steps=1000, eval_steps=20),
        dev=DEV,
    )
    losses = [row["loss"] for row in record.history if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]  # tokenizers are not trained twice alike, and some make it harder
    measured = [row["eval_log_likelihood"] for row in record.history if "eval_log_likelihood" in row]
    assert len(measured) == 3
    generator = QueryGenerator(model, tokenizer)
    assert measured[-1] == pytest.approx(log_likelihood_per_token(generator, DEV), abs=1e-6)
    assert measured[-1] > before
    last = next(row for row in reversed(record.history) if "eval_perplexity" in row)
    assert last["eval_perplexity"] == pytest.approx(math.exp(-measured[-1]), rel=1e-6)
    assert last["eval_score"] == last["eval_log_likelihood"]


def test_what_is_frozen_keeps_its_weights_bitwise(tmp_path: Path) -> None:
    model, tokenizer = model_of(dropout=0.3)
    model.freeze_encoder()
    before = weights(model)
    train_query_generator(model, tokenizer, PAIRS, tmp_path, options=short(max_steps=3, weight_decay=0.1))
    after = weights(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(("decoder.", "pointer.")) or name == "lm_head.bias"}


def test_fresh_weights_have_their_own_rate(tmp_path: Path) -> None:
    model, tokenizer = model_of()
    before = weights(model)
    options = short(max_steps=1, warmup_steps=0, learning_rate=1e-9, fresh_learning_rate=1e-2)
    train_query_generator(model, tokenizer, PAIRS, tmp_path, options=options)
    moved = {name: float((value - before[name]).abs().max()) for name, value in weights(model).items()}
    assert all(
        (distance > 1e-3) == (name.startswith(("decoder.", "pointer.")) or name == "lm_head.bias")
        for name, distance in moved.items()
        if not name.endswith(("relative_attention_bias.weight",))
    ), moved


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    return trained(tmp_path_factory.mktemp("whole"))[0]


# Epochs have four steps (the last short), checkpoints two: within an epoch, at an epoch's end, before any checkpoint.
@pytest.mark.parametrize("stop_at", [3, 5, 4, 1])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, whole: PreTrainedModel, stop_at: int) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    model, record = trained(tmp_path)
    assert record.steps == 8
    assert same_weights(model, whole)
    steps: list[int] = []
    finished, tokenizer = model_of(dropout=0.1)
    again = train_query_generator(
        finished, tokenizer, PAIRS, tmp_path, options=short(), progress=lambda step, of, last: steps.append(step)
    )
    assert steps == []
    assert again.steps == 8
    assert same_weights(finished, whole)


def test_a_t5_resumes_too(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", stop_at=3, kind="t5", max_steps=4)
    one, other = (trained(tmp_path / name, kind="t5", max_steps=4)[0] for name in ("stopped", "whole"))
    assert same_weights(one, other)


def test_the_seed_decides_all(tmp_path: Path, whole: PreTrainedModel) -> None:
    torch.rand(3)
    assert same_weights(trained(tmp_path / "1")[0], whole)
    assert not same_weights(trained(tmp_path / "2", seed=1)[0], whole)


@pytest.mark.parametrize(("scores", "best"), [([-4.0, -1.0, -3.0, -2.0], 1), ([-4.0, -3.0, -2.0, -1.0], 3)])
def test_the_best_checkpoint_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    seen: list[dict[str, Tensor]] = []

    def said(generator: QueryGenerator, dev: object) -> float:
        seen.append(weights(generator.model))
        return scores[len(seen) - 1]

    monkeypatch.setattr("retgen.train.query_generator.log_likelihood_per_token", said)
    model, tokenizer = model_of()
    options = short(max_steps=8, eval_steps=2, keep_best=True)
    record = train_query_generator(model, tokenizer, PAIRS, tmp_path, options=options, dev=DEV)
    assert [row["eval_score"] for row in record.history if "eval_score" in row] == scores
    assert all(torch.equal(value, seen[best][name]) for name, value in model.state_dict().items())


def test_being_measured_changes_nothing(tmp_path: Path, whole: PreTrainedModel) -> None:
    model, tokenizer = model_of(dropout=0.1)
    train_query_generator(model, tokenizer, PAIRS, tmp_path, options=short(eval_steps=3), dev=DEV)
    assert same_weights(model, whole)


def test_every_pair_is_read_once_an_epoch(tmp_path: Path) -> None:
    record = trained(tmp_path, max_steps=0, epochs=2.0)[1]
    assert record.steps == 2 * math.ceil(len(PAIRS) / 6)


def test_another_training_does_not_resume(tmp_path: Path) -> None:
    trained(tmp_path, max_steps=2)
    for change in ("pairs", "options", "preset", "frozen"):
        model, tokenizer = model_of(dropout=0.1)
        if change == "frozen":
            model.freeze_encoder()
        with pytest.raises(MismatchError, match="another training"):
            train_query_generator(
                model,
                tokenizer,
                PAIRS[:-1] if change == "pairs" else PAIRS,
                tmp_path,
                options=short(max_steps=4 if change == "options" else 2),
                preset="jpr-beir" if change == "preset" else "jpr",
            )


def test_nothing_is_printed_and_progress_says_what_was_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[tuple[int, int, str]] = []
    model, tokenizer = model_of()
    train_query_generator(
        model,
        tokenizer,
        PAIRS,
        tmp_path,
        options=short(max_steps=4, eval_steps=2),
        dev=DEV,
        progress=lambda *told: said.append(told),
    )
    assert [told[:2] for told in said] == [(step, 4) for step in range(1, 5)]
    assert "loss" in said[-1][2]
    assert "perplexity" in said[-1][2]
    assert capfd.readouterr() == ("", "")
    assert not model.training


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    model, tokenizer = model_of()
    with pytest.raises(UsageError, match="nothing to train on"):
        train_query_generator(model, tokenizer, [], tmp_path)
    with pytest.raises(UsageError, match="dev questions"):
        train_query_generator(model, tokenizer, PAIRS, tmp_path, options=short(keep_best=True, eval_steps=2))
    with pytest.raises(UsageError, match="no queries to measure"):
        log_likelihood_per_token(QueryGenerator(model.eval(), tokenizer), [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "fp8"},
        {"batch_size": 0},
        {"save_steps": 0},
        {"max_steps": -1},
        {"warmup_steps": -0.1},
        {"learning_rate": 0.0},
        {"fresh_learning_rate": -1.0},
        {"max_steps": 0, "epochs": 0.0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        GeneratorTraining(**wrong)


def test_the_defaults_are_the_papers() -> None:
    options = GeneratorTraining()
    assert (options.batch_size, options.learning_rate, options.epochs, options.warmup_steps) == (64, 5e-5, 2.0, 0.1)
    assert (PRESETS["jpr"].max_passage_tokens, PRESETS["jpr"].max_query_tokens) == (512, 128)
