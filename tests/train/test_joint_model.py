"""Both models as one module: parity with plain forward passes, gradients, what is computed once or never."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retgen.train.candidates import LabelledCandidates
from retgen.train.joint_batches import IGNORED
from retgen.train.joint_loss import symmetric_kl
from retgen.train.joint_model import JointModel, in_parts, query_log_likelihoods
from retgen.types import Query
from tests.train.joint_toy import (
    DOCUMENTS,
    GENERATORS,
    QUESTIONS,
    gradients,
    toy_collator,
    toy_cross_encoder,
    toy_generator,
    toy_models,
)

# Scores


@pytest.mark.parametrize("kind", GENERATORS)
def test_log_likelihoods_are_those_of_a_plain_forward_pair_by_pair(kind: str) -> None:
    model, tokenizer = toy_generator(kind)
    batch = toy_collator((*toy_cross_encoder(), model, tokenizer))(QUESTIONS[:3])
    found = query_log_likelihoods(
        model, batch["passage_ids"], batch["passage_mask"], batch["question_ids"], batch["pair_passage"],
        batch["pair_question"],
    )  # fmt: skip
    assert found.dtype == torch.float32
    assert found.shape == (12, batch["question_ids"].shape[1])
    found.sum().backward()
    together = gradients(model)
    model.zero_grad()
    total = torch.zeros(())
    for row, passage, question in zip(found, batch["pair_passage"], batch["pair_question"], strict=True):
        kept = batch["passage_mask"][passage].bool()
        labels = batch["question_ids"][question]
        known = labels != IGNORED
        alone = model(
            input_ids=batch["passage_ids"][passage][kept][None],
            attention_mask=torch.ones(1, int(kept.sum())),
            labels=labels[known][None],
        )
        assert -row[known].mean().item() == pytest.approx(alone.loss.item(), abs=1e-4)
        assert not row[~known].any()
        total = total - alone.loss * known.sum()
    total.backward()
    apart = gradients(model)
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "warm, copying"])
def test_computing_in_parts_changes_nothing(kind: str) -> None:
    found = []
    for at_once in (0, 1, 5):
        models = (*toy_cross_encoder(), *toy_generator(kind))
        model = JointModel(models[0], models[2], alpha=0.5, pairs_at_once=at_once)
        parts = model(**toy_collator(models)(QUESTIONS))
        parts["loss"].backward()
        found.append((parts, gradients(model)))
    for parts, slopes in found[1:]:
        for name in ("loss", "retrieval", "generation", "matching"):
            torch.testing.assert_close(parts[name], found[0][0][name], rtol=1e-4, atol=1e-5)
        assert slopes.keys() == found[0][1].keys()
        for name, gradient in slopes.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-3, atol=1e-5)


def test_each_part_has_its_rows() -> None:
    seen = []

    def double(values: Tensor) -> Tensor:
        seen.append(len(values))
        return values * 2

    values = torch.arange(7.0)
    assert torch.equal(in_parts(double, [values], 3), values * 2)
    assert seen == [3, 3, 1]


def test_a_passage_of_several_questions_is_encoded_once() -> None:
    models = toy_models()
    model = JointModel(models[0], models[2], alpha=0.5)
    rows = []
    models[2].get_encoder().register_forward_hook(lambda _m, _a, kwargs, _o: rows.append(len(kwargs["input_ids"])),
                                                  with_kwargs=True)  # fmt: skip
    model(**toy_collator(models)(QUESTIONS))
    assert sum(map(len, QUESTIONS)) > len(DOCUMENTS)
    assert rows == [len({name for question in QUESTIONS for name in question.passages})]
    rows.clear()
    # Without the matching loss the generator is asked of gold passages alone.
    model.alpha = 0.0
    model(**toy_collator(models)(QUESTIONS))
    assert rows == [len({name for question in QUESTIONS for name in question.positives})]


@pytest.mark.parametrize("kind", ["t5", "warm, copying"])
def test_a_frozen_encoder_gets_no_gradient_and_drops_nothing_out(kind: str) -> None:
    models = (*toy_cross_encoder(), *toy_generator(kind, dropout=0.5))
    encoder = models[2].get_encoder()
    frozen = [parameter.requires_grad_(False) for parameter in encoder.parameters()]
    model = JointModel(models[0], models[2], alpha=0.5).train()
    assert model.generator.training
    assert not encoder.training
    states: list[Tensor] = []
    encoder.register_forward_hook(lambda _m, _a, output: states.append(output.last_hidden_state))
    batch = toy_collator(models)(QUESTIONS[:2])
    model(**batch)["loss"].backward()
    model(**batch)
    assert torch.equal(states[0], states[1])
    assert not states[0].requires_grad
    assert all(parameter.grad is None for parameter in frozen)
    decoder = models[2].decoder
    assert any(parameter.grad is not None for parameter in decoder.parameters() if parameter.requires_grad)


def test_log_likelihoods_are_single_precision_under_autocast() -> None:
    model, tokenizer = toy_generator("t5")
    batch = toy_collator((*toy_cross_encoder(), model, tokenizer))(QUESTIONS[:2])
    seen: list[torch.dtype] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _m, _a, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query_log_likelihoods(
            model, batch["passage_ids"], batch["passage_mask"], batch["question_ids"], batch["pair_passage"],
            batch["pair_question"],
        )  # fmt: skip
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert seen == [torch.float32]
    assert len(head._forward_hooks) == 1
    assert not head._forward_pre_hooks


# The loss of a batch


def test_the_loss_is_made_of_the_three() -> None:
    models = toy_models()
    model = JointModel(models[0], models[2], alpha=0.25)
    collator = toy_collator(models)
    parts = model(**collator(QUESTIONS))
    logits, means, nats, tokens = [], [], [], 0
    for question in QUESTIONS:
        alone = collator([question])
        scores = models[0](**{name: alone[f"pair_{name}"] for name in models[1].model_input_names}).logits[:, 0]
        logits.append(scores)
        rows = []
        for number in range(len(question)):
            output = models[2](
                input_ids=alone["passage_ids"][number : number + 1],
                attention_mask=alone["passage_mask"][number : number + 1],
                labels=alone["question_ids"],
            )
            rows.append(-output.loss)
            if question.labels[number]:
                nats.append(output.loss * alone["question_ids"].shape[1])
                tokens += alone["question_ids"].shape[1]
        means.append(torch.stack(rows))
    labels = torch.tensor([label for question in QUESTIONS for label in question.labels]).float()
    binary = functional.binary_cross_entropy_with_logits(torch.cat(logits), labels)
    divergences = [
        symmetric_kl(one[None], other[None], torch.ones(1, len(one), dtype=torch.bool))
        for one, other in zip(logits, means, strict=True)
    ]
    matching = torch.cat(divergences).mean()
    torch.testing.assert_close(parts["retrieval"], binary, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts["generation"], torch.stack(nats).sum() / tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts["matching"], matching, rtol=1e-3, atol=1e-5)
    expected = parts["retrieval"] + parts["generation"] + 0.25 * parts["matching"]
    torch.testing.assert_close(parts["loss"], expected)


def test_the_matching_loss_alone_moves_both_models() -> None:
    models = toy_models()
    model = JointModel(models[0], models[2], alpha=1.0)
    model(**toy_collator(models)(QUESTIONS))["matching"].backward()
    for part in (model.cross_encoder, model.generator):
        assert any(gradient.any() for gradient in gradients(part).values())
        assert all(torch.isfinite(gradient).all() for gradient in gradients(part).values())


def test_a_cross_encoder_with_two_outputs_is_scored_by_their_difference() -> None:
    models = (*toy_cross_encoder(outputs=2), *toy_generator())
    batch = toy_collator(models)(QUESTIONS[:2])
    raw = models[0](**{name: batch[f"pair_{name}"] for name in models[1].model_input_names}).logits
    found = JointModel(models[0], models[2], alpha=0.0).logits(batch)
    torch.testing.assert_close(found, raw[:, 1] - raw[:, 0])


def test_a_batch_without_gold_leaves_the_generator_alone() -> None:
    models = toy_models()
    model = JointModel(models[0], models[2], alpha=0.0)
    bare = LabelledCandidates(Query("q", "who?"), ("oxygen", "tin"), (0, 0))
    parts = model(**toy_collator(models)([bare]))
    parts["loss"].backward()
    assert parts["generation"] == 0
    assert not gradients(model.generator)
    assert gradients(model.cross_encoder)


@pytest.mark.parametrize("kind", ["t5", "warm, copying"])
def test_in_half_precision_scores_stay_apart(kind: str) -> None:
    models = (*toy_cross_encoder(), *toy_generator(kind))
    model = JointModel(models[0], models[2], alpha=0.5, pairs_at_once=4)
    batch = toy_collator(models)(QUESTIONS)
    whole = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(**batch)
    half["loss"].backward()
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(whole[name].item(), rel=0.2, abs=0.02)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())
