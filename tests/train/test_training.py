"""Training learns, the same from the same seed; what is frozen stays; what is best on dev questions is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retgen.devices import flushes_denormals
from retgen.errors import MismatchError, UsageError
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.generative.unigen import UniGen
from retgen.models.copying import CopyHead
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.train.options import UniGenTraining
from retgen.train.parameters import frozen_layers, parameter_groups
from retgen.train.unigen import DevSet, TrainingRecord, train_unigen
from retgen.types import Query, Triplet
from tests.models.builders import VARIANTS, tiny_model
from tests.train.toy import (
    QUESTIONS,
    TRIPLETS,
    contexts,
    same_weights,
    toy_examples,
    toy_options,
    toy_system,
    weights,
)

HEADS: dict[str, Any] = {"copy_head": True, "span_head": True}


def trained(folder: Path, *, with_context: bool = True, seed: int = 0, **options: Any) -> tuple[UniGen, TrainingRecord]:
    system = toy_system(**(HEADS if with_context else {}))
    chosen = toy_options(seed=seed, **options)
    return system, train_unigen(system, toy_examples(system, with_context=with_context), folder, options=chosen)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    short: dict[str, Any] = {"max_steps": 4, "save_steps": 100, "shuffle_passages": 0.5}
    one = weights(trained(tmp_path / "1", **short)[0])
    torch.rand(5)
    assert same_weights(one, weights(trained(tmp_path / "2", **short)[0]))
    assert not same_weights(one, weights(trained(tmp_path / "3", seed=1, **short)[0]))


@pytest.mark.parametrize("with_context", [False, True], ids=["plain question", "context"])
def test_a_tiny_model_learns_eight_questions_by_heart(tmp_path: Path, with_context: bool) -> None:
    system = toy_system(width=48, **(HEADS if with_context else {}))
    options = toy_options(max_steps=120, batch_size=8, learning_rate=6e-3, save_steps=1000)
    queries = contexts() if with_context else QUESTIONS
    dev = DevSet(queries, TRIPLETS)
    examples = toy_examples(system, with_context=with_context)
    before = dev.measure(system)
    record = train_unigen(system, examples, tmp_path, options=options, dev=dev)
    losses = [row["loss"] for row in record.history if "loss" in row]
    assert losses[-1] < losses[0] / 2
    after = dev.measure(system)
    assert before["EM"] < 1
    assert (after["R@1"], after["MRR@10"], after["EM"], after["F1"]) == (1, 1, 1, 1)
    if with_context:
        for strategy in ("constrained", "span"):
            system.settings = replace(system.settings, answer_strategy=strategy)
            assert dev.measure(system)["EM"] == 1


def test_batches_follow_epochs(tmp_path: Path) -> None:
    record = trained(tmp_path, max_steps=0, epochs=2.0)[1]
    assert record.steps == 2 * 3  # 8 examples in batches of 3


# Parameters


@pytest.mark.parametrize("lexical_prior", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layers", [0, 1])
def test_groups_hold_every_trainable_weight_once(variant: str, lexical_prior: bool, layers: int) -> None:
    model = tiny_model(variant, lexical_prior=lexical_prior)
    options = UniGenTraining(learning_rate=1.0, fresh_learning_rate=2.0, prior_learning_rate=3.0, weight_decay=0.5)
    with frozen_layers(model, layers):
        groups = parameter_groups(model, options)
        members = [id(parameter) for group in groups for parameter in group["params"]]
        wanted = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
        assert sorted(members) == sorted(wanted)
    rates = {id(parameter): group for group in groups for parameter in group["params"]}
    scalars = 0
    for name, parameter in model.named_parameters():
        if id(parameter) not in rates:
            continue
        group = rates[id(parameter)]
        assert group["weight_decay"] == (0.5 if parameter.dim() > 1 else 0.0)
        if name.rsplit(".", 1)[-1] in ("rank_bias", "overlap_weight", "continuation"):
            scalars += 1
            assert group["lr"] == 3.0
        elif name.startswith(("encoder.", "answer_encoder.", "shared.")):
            assert group["lr"] == 1.0
        elif name.startswith(("retrieval_decoder.", "answer_decoder.")):
            # A T5 checkpoint brings its decoders; a BERT-like one has none.
            assert group["lr"] == (2.0 if variant.startswith("bert") else 1.0)
        elif "copy" in name or "span" in name or "match" in name:
            assert group["lr"] == 2.0
    heads = sum(isinstance(module, CopyHead) for module in model.modules())
    assert scalars == heads * (3 if lexical_prior else 2)


def trainable(model: UniGenForRetrievalAndAnswering) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_frozen_layers_are_thawed_as_they_were(variant: str) -> None:
    model = tiny_model(variant, lexical_prior=False)
    before = trainable(model)
    with frozen_layers(model, 1):
        assert not model.shared.weight.requires_grad
    assert trainable(model) == before
    with pytest.raises(KeyError), frozen_layers(model, 1):
        raise KeyError
    assert trainable(model) == before
    with pytest.raises(UsageError, match="3 layers"), frozen_layers(model, 3):
        pass
    assert trainable(model) == before


def test_frozen_layers_keep_their_weights_bitwise(tmp_path: Path) -> None:
    system = toy_system(layers=2, lexical_prior=False, **HEADS)
    before, were_trained = weights(system), trainable(system.model)
    train_unigen(system, toy_examples(system), tmp_path, options=toy_options(frozen_layers=1, max_steps=3))
    after = weights(system)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("encoder.block.0.", "shared.", "lm_head.weight"))}
    assert frozen
    assert not changed & frozen
    assert "token_weights" not in changed
    assert any(name.startswith("encoder.block.1.") for name in changed)
    assert any(name.startswith("retrieval_decoder.") for name in changed)
    assert trainable(system.model) == were_trained


# Dev questions


def test_dev_sets_measure_as_the_evaluation_does() -> None:
    system = toy_system(**HEADS)
    queries = contexts()
    run, answers = system.search_and_answer(queries, k=10)
    qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in TRIPLETS}
    expected = evaluate_run(run, qrels, ["RR@10", "R@1", "R@10"]).means
    said = {answer.query_id: answer.text for answer in answers}
    gold = {triplet.query.id: triplet.answers for triplet in TRIPLETS}
    scored = evaluate_answers(said, gold, ("EM", "F1")).means
    values = DevSet(queries, TRIPLETS).measure(system)
    assert values["MRR@10"] == expected["RR@10"]
    assert (values["R@1"], values["R@10"]) == (expected["R@1"], expected["R@10"])
    assert (values["EM"], values["F1"]) == (scored["EM"], scored["F1"])
    assert values["score"] == (values["MRR@10"] + values["EM"]) / 2


def test_dev_sets_without_answers_measure_retrieval() -> None:
    silent = [Triplet(triplet.query, (), triplet.doc_ids) for triplet in TRIPLETS]
    values = DevSet(contexts(), silent).measure(toy_system(**HEADS))
    assert set(values) == {"MRR@10", "R@1", "R@10", "score"}
    assert values["score"] == values["MRR@10"]


class Scored(DevSet):
    """A dev set that says what it measured, and keeps the weights it measured it of."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__(QUESTIONS, TRIPLETS)
        object.__setattr__(self, "scores", list(scores))
        object.__setattr__(self, "seen", [])

    def measure(self, system: UniGen) -> dict[str, float]:
        self.seen.append(weights(system))  # type: ignore[attr-defined]
        return {"score": self.scores.pop(0)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("scores", "best"), [([0.1, 0.9, 0.3, 0.2], 1), ([0.4, 0.3, 0.2, 0.9], 3), ([0.5, 0.4, 0.3, 0.2], 0)]
)
def test_the_best_checkpoint_is_kept(tmp_path: Path, scores: list[float], best: int) -> None:
    dev = Scored(scores)
    system = toy_system()
    options = toy_options(max_steps=7, eval_steps=2, keep_best=True)
    examples = toy_examples(system, with_context=False)
    record = train_unigen(system, examples, tmp_path, options=options, dev=dev)
    seen = dev.seen  # type: ignore[attr-defined]
    assert len(seen) == 4  # after 2, 4, 6 steps and the last
    assert same_weights(weights(system), seen[best])
    assert [row["eval_score"] for row in record.history if "eval_score" in row] == scores
    # Started again after its end, it gives the same.
    again = toy_system()
    train_unigen(again, examples, tmp_path, options=options, dev=Scored([]))
    assert same_weights(weights(again), seen[best])


def test_the_last_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    dev = Scored([0.9, 0.1, 0.2])
    system = toy_system()
    train_unigen(
        system,
        toy_examples(system, with_context=False),
        tmp_path,
        options=toy_options(max_steps=5, eval_steps=2),
        dev=dev,
    )
    assert same_weights(weights(system), dev.seen[-1])  # type: ignore[attr-defined]


def test_without_eval_steps_dev_questions_are_asked_at_the_end(tmp_path: Path) -> None:
    system = toy_system(**HEADS)
    dev = DevSet(contexts(), TRIPLETS)
    record = train_unigen(system, toy_examples(system), tmp_path, options=toy_options(max_steps=4), dev=dev)
    asked = [row for row in record.history if "eval_score" in row]
    assert [row["step"] for row in asked] == [4]
    assert {"eval_MRR@10", "eval_EM", "eval_F1", "eval_R@1", "eval_R@10"} <= set(asked[0])
    assert asked[0]["eval_score"] == pytest.approx(dev.measure(system)["score"])


def test_being_asked_changes_nothing(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", max_steps=4)[0]
    asked = toy_system(**HEADS)
    dev = DevSet(contexts(), TRIPLETS)
    options = toy_options(max_steps=4, eval_steps=1)
    train_unigen(asked, toy_examples(asked), tmp_path / "asked", options=options, dev=dev)
    assert same_weights(weights(plain), weights(asked))


# What else a training leaves


def test_logs_and_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[tuple[int, int]] = []
    said: list[str] = []
    system = toy_system(**HEADS)

    def report(step: int, of: int, last: str) -> None:
        steps.append((step, of))
        said.append(last)

    options = toy_options(max_steps=5, eval_steps=2)
    dev = DevSet(contexts(), TRIPLETS)
    train_unigen(system, toy_examples(system), tmp_path, options=options, dev=dev, progress=report)
    assert steps == [(n, 5) for n in range(1, 6)]
    assert "loss" in said[-1]
    assert "MRR@10" in said[-1]
    events = list(tmp_path.rglob("events.out.tfevents.*"))
    assert events
    assert sum(file.stat().st_size for file in events) > 0
    assert not system.model.training
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


def test_tensorboard_reads_the_loss_and_what_dev_questions_measured(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    system = toy_system(**HEADS)
    options = toy_options(max_steps=4, eval_steps=2)
    dev = DevSet(contexts(), TRIPLETS)
    record = train_unigen(system, toy_examples(system), tmp_path, options=options, dev=dev)
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = accumulator.EventAccumulator(str(file.parent)).Reload()
    for tag, name in (("train/loss", "loss"), ("eval/MRR@10", "eval_MRR@10"), ("eval/EM", "eval_EM")):
        logged = {int(row["step"]): row[name] for row in record.history if name in row}
        assert set(logged) == {2, 4}
        assert {event.step: event.value for event in events.Scalars(tag)} == pytest.approx(logged)


@pytest.mark.parametrize("before", [False, True])
def test_denormal_numbers_are_as_they_were(tmp_path: Path, before: bool) -> None:
    seen: list[bool] = []
    system = toy_system()
    examples = toy_examples(system, with_context=False)
    torch.set_flush_denormal(before)
    try:
        train_unigen(
            system,
            examples,
            tmp_path,
            options=toy_options(max_steps=1),
            progress=lambda *_: seen.append(flushes_denormals()),
        )
        assert seen == [True]
        assert flushes_denormals() == before
    finally:
        torch.set_flush_denormal(False)


def test_no_examples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        train_unigen(toy_system(), [], tmp_path)


def test_keeping_the_best_needs_dev_questions(tmp_path: Path) -> None:
    system = toy_system()
    examples = toy_examples(system, with_context=False)
    with pytest.raises(UsageError, match="dev questions"):
        train_unigen(system, examples, tmp_path, options=toy_options(keep_best=True, eval_steps=2))
    dev = DevSet(QUESTIONS, TRIPLETS)
    with pytest.raises(UsageError, match="eval_steps"):
        train_unigen(system, examples, tmp_path, options=toy_options(keep_best=True), dev=dev)


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "fp8"},
        {"shuffle_passages": 1.5},
        {"batch_size": 0},
        {"save_steps": 0},
        {"max_steps": -1},
        {"eval_steps": -2},
        {"max_steps": 0, "epochs": 0.0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        UniGenTraining(**wrong)


def test_another_training_does_not_resume(tmp_path: Path) -> None:
    system, _ = trained(tmp_path, max_steps=2)
    examples = toy_examples(system)
    for options, chosen in ((toy_options(max_steps=4), examples), (toy_options(max_steps=2), examples[:-1])):
        with pytest.raises(MismatchError, match="another training"):
            train_unigen(system, chosen, tmp_path, options=options)


def test_a_question_without_words_can_be_trained_on(tmp_path: Path) -> None:
    system = toy_system(**HEADS)
    empty = replace(toy_examples(system)[0], input_text="")
    record = train_unigen(system, [empty], tmp_path, options=toy_options(max_steps=2))
    assert record.steps == 2
    assert system.search([Query("q", "")], k=1).doc_ids("q") != []
