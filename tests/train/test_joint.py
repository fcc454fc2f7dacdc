"""Joint fine-tuning: together and apart, rates and clipping of each model's own, stopping, measuring, choosing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from retgen.errors import MismatchError, UsageError
from retgen.models.pair_inputs import PairInputs
from retgen.models.prompt_format import PRESETS
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint import ClipEachModel, JointRecord, JointTraining, joint_parameter_groups, train_joint
from retgen.train.joint_batches import draw_candidates
from retgen.train.joint_dev import JointDev
from retgen.train.joint_loss import symmetric_kl
from retgen.train.joint_model import JointModel
from retgen.train.sampling import LengthBucketSampler
from retgen.types import Query
from tests.train.joint_toy import (
    DOCUMENTS,
    PROMPT,
    QUESTIONS,
    gradients,
    largest_gap,
    toy_collator,
    toy_cross_encoder,
    toy_generator,
    toy_models,
    toy_options,
    toy_rerankers,
    weights,
)


def trained(
    folder: Path, models: Sequence[Any] | None = None, *, dev: Any = None, progress: Any = None, **options: Any
) -> tuple[Any, JointRecord]:
    made = models or toy_models()
    return made, train_joint(
        *made, QUESTIONS, DOCUMENTS, folder, options=toy_options(**options), dev=dev, progress=progress
    )


def test_a_frozen_warm_generator_keeps_its_encoder(tmp_path: Path) -> None:
    models = (*toy_cross_encoder(), *toy_generator("warm, copying", frozen_encoder=True))
    before = weights(models[2])
    trained(tmp_path, models, max_steps=2)
    after = weights(models[2])
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert any("encoder" in name for name in same)
    assert all(name in same for name in before if ".encoder." in name or ".shared." in name)
    assert any(".decoder." in name for name in before.keys() - same)


# Together and apart


def alone(model: PreTrainedModel, options: JointTraining, rate: float, loss: Any) -> None:
    """Plain training of one model on the batches of a joint one: AdamW, linear schedule, its own clipping."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=options.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, int(options.warmup_steps), options.max_steps)
    lengths = [min(len(question), options.candidates_per_question) for question in QUESTIONS]
    sampler = LengthBucketSampler(lengths, options.batch_size, options.seed)
    model.train()
    steps = 0
    for epoch in range(options.max_steps):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, len(order), options.batch_size):
            if steps == options.max_steps:
                return
            drawn = [draw_candidates(QUESTIONS[n], options, epoch) for n in order[start : start + options.batch_size]]
            loss(drawn).backward()
            assert torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm) > options.max_grad_norm
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            steps += 1


def test_at_alpha_zero_it_equals_training_each_model_alone(tmp_path: Path) -> None:
    options = toy_options(alpha=0.0, max_steps=7, max_grad_norm=0.05, candidates_per_question=3, weight_decay=0.0)
    joint = toy_models()
    train_joint(*joint, QUESTIONS, DOCUMENTS, tmp_path, options=options)

    reader, pair_tokenizer, writer, tokenizer = toy_models()

    def relevance(drawn: Sequence[LabelledCandidates]) -> Tensor:
        pairs = [(question.query.text, DOCUMENTS[name].contents) for question in drawn for name in question.passages]
        labels = torch.tensor([label for question in drawn for label in question.labels]).float()
        logits = reader(**PairInputs(pair_tokenizer, 48)(pairs)).logits[:, 0]
        return functional.binary_cross_entropy_with_logits(logits, labels)

    def generation(drawn: Sequence[LabelledCandidates]) -> Tensor:
        gold = [(question.query.text, DOCUMENTS[name]) for question in drawn for name in question.positives]
        read = PROMPT.passage_ids(tokenizer, [passage for _, passage in gold])
        written = PROMPT.query_ids(tokenizer, [text for text, _ in gold])
        inputs = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in read], batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in read], batch_first=True)
        labels = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in written], batch_first=True, padding_value=-100)
        loss: Tensor = writer(input_ids=inputs, attention_mask=mask, labels=labels).loss
        return loss

    start = weights(reader, writer)
    alone(reader, options, options.learning_rate, relevance)
    alone(writer, options, options.generator_learning_rate, generation)
    assert largest_gap(weights(reader, writer), start) > 1e-3
    one, other = weights(joint[0], joint[2]), weights(reader, writer)
    for name in one:
        # A softmax does not see its keys' bias: the gradient is rounding, which Adam makes a whole step of.
        if not name.endswith("key.bias"):
            assert float((one[name] - other[name]).abs().max()) < 1e-6, name


def test_alpha_makes_the_models_meet(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "max_steps": 30, "batch_size": 6, "eval_steps": 10, "learning_rate": 3e-3, "generator_learning_rate": 3e-3,
    }  # fmt: skip
    pulled, record = trained(tmp_path / "1", alpha=50.0, dev=QUESTIONS, **chosen)
    apart, without = trained(tmp_path / "2", alpha=0.0, dev=QUESTIONS, **chosen)
    assert record.before == without.before
    assert record.after["kl"] < record.before["kl"]
    assert record.after["kl"] < without.after["kl"]
    losses = [row for row in record.history if "matching" in row]
    assert losses
    assert all(row["loss"] == pytest.approx(row["retrieval"] + row["generation"] + 50.0 * row["matching"], abs=1e-3)
               for row in losses)  # fmt: skip
    assert not any("matching" in row for row in without.history)
    assert largest_gap(weights(pulled[0], pulled[2]), weights(apart[0], apart[2])) > 0


def test_each_model_has_its_own_rate(tmp_path: Path) -> None:
    for frozen, moving in ((0, 2), (2, 0)):
        models = toy_models()
        before = [weights(model) for model in models[::2]]
        rates = {"learning_rate": 1e-3 * (frozen != 0), "generator_learning_rate": 1e-3 * (frozen != 2)}
        trained(tmp_path / str(frozen), models, max_steps=2, **rates)
        assert largest_gap(weights(models[frozen]), before[frozen // 2]) == 0
        assert largest_gap(weights(models[moving]), before[moving // 2]) > 0


def test_groups_hold_every_trained_weight_once() -> None:
    models = toy_models()
    for parameter in models[2].get_encoder().parameters():
        parameter.requires_grad_(False)
    model = JointModel(models[0], models[2], alpha=0.5)
    options = toy_options(weight_decay=0.5)
    groups = joint_parameter_groups(model, options)
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    of_reader = {id(parameter) for parameter in models[0].parameters()}
    for group in groups:
        for parameter in group["params"]:
            reads = id(parameter) in of_reader
            assert group["lr"] == (options.learning_rate if reads else options.generator_learning_rate)
            assert group["weight_decay"] == (0.5 if parameter.dim() > 1 else 0.0)


def test_one_models_huge_gradient_does_not_shrink_the_others() -> None:
    small, huge = nn.Linear(3, 2), nn.Linear(3, 2)
    for model, size in ((small, 0.01), (huge, 1e6)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, size)
    before = gradients(small)
    ClipEachModel([small, huge], 1.0).on_pre_optimizer_step(None, None, None)
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(small).items())
    norm = torch.cat([gradient.flatten() for gradient in gradients(huge).values()]).norm()
    assert float(norm) == pytest.approx(1.0, rel=1e-4)
    ClipEachModel([small], 0.0).on_pre_optimizer_step(None, None, None)
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(small).items())


# Stopping, going on, choosing


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "max_steps": 7, "save_steps": 2, "candidates_per_question": 2, "pairs_at_once": 3, "dropout": 0.2,
    }  # fmt: skip
    dropout = chosen.pop("dropout")
    whole, record = trained(tmp_path / "whole", toy_models(dropout=dropout), **chosen)

    def stop(step: int, steps: int, said: str) -> None:
        if step == 5:
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path / "parts", toy_models(dropout=dropout), progress=stop, **chosen)
    seen: list[int] = []
    resumed, again = trained(
        tmp_path / "parts", toy_models(dropout=dropout), progress=lambda step, *_: seen.append(step), **chosen
    )
    assert seen == [5, 6, 7]
    assert record.steps == again.steps == 7
    assert largest_gap(weights(whole[0], whole[2]), weights(resumed[0], resumed[2])) == 0
    ended, last = trained(tmp_path / "parts", toy_models(dropout=dropout), progress=stop, **chosen)
    assert last.steps == 7
    assert largest_gap(weights(whole[0], whole[2]), weights(ended[0], ended[2])) == 0


def test_the_best_checkpoint_by_dev_is_kept(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"max_steps": 6, "eval_steps": 2, "keep_best": True, "learning_rate": 0.05}
    models, record = trained(tmp_path, dev=QUESTIONS, **chosen)
    found = [row["eval_score"] for row in record.history if "eval_score" in row]
    assert len(found) == 3
    assert record.after["score"] == max(found)
    measured = JointDev(QUESTIONS, DOCUMENTS).measure(*toy_rerankers(models))
    assert measured == pytest.approx(dict(record.after), abs=1e-4)
    assert {"Success@1", "Success@5", "Success@10", "score", "kl"} == set(record.before)


def test_being_measured_changes_nothing(tmp_path: Path) -> None:
    plain = trained(tmp_path / "1", toy_models(dropout=0.2))[0]
    asked = trained(tmp_path / "2", toy_models(dropout=0.2), dev=QUESTIONS, eval_steps=1)[0]
    assert largest_gap(weights(plain[0], plain[2]), weights(asked[0], asked[2])) == 0


def test_what_is_measured_is_what_was_trained() -> None:
    # The scores in a re-ranker's order, computed as training does.
    models = (*toy_cross_encoder(), *toy_generator("warm, copying"))
    bare = LabelledCandidates(Query("bare", "nothing?"), (), ())
    lost = LabelledCandidates(Query("lost", "what is tin"), ("oxygen", "mars"), (0, 0))
    asked = [*QUESTIONS, bare, lost]
    dev = JointDev(asked, DOCUMENTS, generator_weight=0.3)
    run = dev.run(*toy_rerankers(models))
    model = JointModel(models[0], models[2], alpha=0.5)
    hits, divergences = 0, []
    for question in asked:
        order = run.doc_ids(question.query.id)
        assert sorted(order) == sorted(question.passages)
        if not order:
            continue
        batch = toy_collator(models)([replace(question, passages=tuple(order), labels=(0,) * len(order))])
        every = torch.ones(len(order), dtype=torch.bool)
        with torch.no_grad():
            logits = model.logits(batch)
            likelihoods = model.token_log_probabilities(batch, every).mean(-1)
        for name, values in (("cross_encoder", logits), ("generator", likelihoods)):
            found = torch.from_numpy(run.scores(question.query.id, name).copy())
            torch.testing.assert_close(found, values.double(), rtol=1e-4, atol=1e-4)
        fused = 0.7 * logits.log_softmax(0) + 0.3 * likelihoods.log_softmax(0)
        assert fused.tolist() == pytest.approx(fused.sort(descending=True).values.tolist(), abs=1e-4)
        divergences.append(float(symmetric_kl(logits[None], likelihoods[None], every[None])))
        hits += order[0] in question.positives
    values = dev.measure(*toy_rerankers(models))
    assert values["Success@1"] == pytest.approx(hits / len(asked))
    assert values["Success@10"] == pytest.approx(len(QUESTIONS) / len(asked))
    assert values["score"] == pytest.approx(sum(values[name] for name in ("Success@1", "Success@5", "Success@10")) / 3)
    assert values["kl"] == pytest.approx(sum(divergences) / len(divergences), abs=1e-4)
    assert values["kl"] > 0


def test_measuring_leaves_the_models_as_they_were() -> None:
    models = toy_models(dropout=0.3)
    rerankers = toy_rerankers(models)
    models[0].eval()
    models[2].train()
    models[2].get_encoder().eval()
    dev = JointDev(QUESTIONS, DOCUMENTS)
    assert dev.measure(*rerankers) == dev.measure(*rerankers)
    assert not models[0].training
    assert models[2].training
    assert not models[2].get_encoder().training


def test_it_prints_nothing_and_reports_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int, str]] = []
    _, record = trained(tmp_path, max_steps=3, dev=QUESTIONS, eval_steps=1, progress=lambda *said: seen.append(said))
    assert [(step, steps) for step, steps, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert "kl" in seen[-1][2]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    assert record.seconds > 0


def test_the_encoder_can_be_frozen_for_a_training(tmp_path: Path) -> None:
    models = toy_models()
    before = weights(models[2])
    trained(tmp_path, models, max_steps=2, freeze_encoder=True)
    after = weights(models[2])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".decoder." in name for name in changed)
    assert all(parameter.requires_grad for parameter in models[2].parameters())


@pytest.mark.parametrize("kind", ["bart", "warm, copying"])
@pytest.mark.parametrize("objective", ["binary", "ranking"])
def test_other_families_and_the_ranking_objective_train(tmp_path: Path, kind: str, objective: str) -> None:
    models = (*toy_cross_encoder(), *toy_generator(kind))
    before = weights(models[0], models[2])
    record = trained(tmp_path, models, objective=objective, max_steps=20, batch_size=6)[1]
    assert largest_gap(weights(models[0], models[2]), before) > 0
    assert record.steps == 20


# What cannot be


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    models = toy_models()
    bare = LabelledCandidates(Query("bare", "who?"), (), ())
    lost = LabelledCandidates(Query("lost", "who?"), ("tin",), (0,))
    for questions, said in (([], "nothing to train"), ([QUESTIONS[0], bare], "bare"), ([lost], "relevant")):
        with pytest.raises(UsageError, match=said):
            train_joint(*models, questions, DOCUMENTS, tmp_path, options=toy_options())
    with pytest.raises(UsageError, match="sums"):
        trained(tmp_path, models, preset=PRESETS["upr"])
    with pytest.raises(UsageError, match="prompt format"):
        trained(tmp_path, models, preset="unheard of")
    with pytest.raises(UsageError, match="dev questions"):
        trained(tmp_path, models, keep_best=True, eval_steps=2)
    with pytest.raises(UsageError, match="has 3"):
        trained(tmp_path, (*toy_cross_encoder(outputs=3), *models[2:]))
    with pytest.raises(UsageError, match="encoder-decoder"):
        trained(tmp_path, (*models[:2], *models[:2]))
    assert not any(tmp_path.iterdir())


def test_another_training_does_not_resume(tmp_path: Path) -> None:
    trained(tmp_path, max_steps=2)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, max_steps=2, alpha=0.1)
    with pytest.raises(MismatchError, match="another training"):
        train_joint(*toy_models(), QUESTIONS[:-1], DOCUMENTS, tmp_path, options=toy_options(max_steps=2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -0.1},
        {"alpha": float("nan")},
        {"generator_weight": 1.5},
        {"objective": "pairwise"},
        {"negatives": "easy"},
        {"precision": "fp8"},
        {"candidates_per_question": 0},
        {"max_positives": 0},
        {"batch_size": 0},
        {"learning_rate": -1e-5},
        {"max_grad_norm": float("inf")},
        {"pairs_at_once": -1},
        {"max_steps": 0, "epochs": 0.0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        toy_options(**wrong)
