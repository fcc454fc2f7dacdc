"""Joint fine-tuning: scores with gradients, batches, training together and apart, stopping, measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from retgen.errors import MismatchError, UnknownDocumentError, UsageError
from retgen.models.pair_inputs import PairInputs
from retgen.models.prompt_format import PRESETS
from retgen.models.query_generator import QueryGenerator
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint import ClipEachModel, JointRecord, JointTraining, joint_parameter_groups, train_joint
from retgen.train.joint_batches import IGNORED, DrawnCandidates, JointCollator, draw_candidates
from retgen.train.joint_dev import JointDev
from retgen.train.joint_loss import symmetric_kl
from retgen.train.joint_model import JointModel, in_parts, query_log_likelihoods
from retgen.train.sampling import LengthBucketSampler
from retgen.types import Query
from tests.train.joint_toy import (
    DOCUMENTS,
    GENERATORS,
    PROMPT,
    QUESTIONS,
    largest_gap,
    toy_cross_encoder,
    toy_generator,
    toy_models,
    toy_options,
    weights,
)


def toy_rerankers(models: Sequence[Any]) -> tuple[CrossEncoder, QueryGenerator]:
    reader = CrossEncoder(models[0], models[1], max_length=48, device="cpu", dtype="fp32")
    return reader, QueryGenerator(models[2].eval(), models[3], PROMPT)


def toy_collator(models: Sequence[Any]) -> JointCollator:
    return JointCollator(DOCUMENTS, *toy_rerankers(models))


def trained(
    folder: Path, models: Sequence[Any] | None = None, *, dev: Any = None, progress: Any = None, **options: Any
) -> tuple[Any, JointRecord]:
    made = models or toy_models()
    return made, train_joint(
        *made, QUESTIONS, DOCUMENTS, folder, options=toy_options(**options), dev=dev, progress=progress
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


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


def test_a_frozen_warm_generator_keeps_its_encoder(tmp_path: Path) -> None:
    models = (*toy_cross_encoder(), *toy_generator("warm, copying", frozen_encoder=True))
    before = weights(models[2])
    trained(tmp_path, models, max_steps=2)
    after = weights(models[2])
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert any("encoder" in name for name in same)
    assert all(name in same for name in before if ".encoder." in name or ".shared." in name)
    assert any(".decoder." in name for name in before.keys() - same)


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


def test_the_loss_is_made_of_the_three(tmp_path: Path) -> None:
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


# Batches


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from(["random", "hardest"]),
    st.integers(0, 3),
)
def test_candidates_are_drawn(labels: list[int], number: int, most: int, negatives: str, epoch: int) -> None:
    names = tuple(f"d{place}" for place in range(len(labels)))
    question = LabelledCandidates(Query("q", "who?"), names, tuple(labels))
    options = toy_options(candidates_per_question=number, max_positives=most, negatives=negatives)
    drawn = draw_candidates(question, options, epoch)
    assert drawn == draw_candidates(question, options, epoch)
    assert drawn.query == question.query
    assert 1 <= len(drawn) <= min(number, len(labels))
    assert len(drawn.positives) == min(len(question.positives), most, number)
    assert len(drawn.negatives) == min(len(question.negatives), number - len(drawn.positives))
    assert [names.index(name) for name in drawn.passages] == sorted(names.index(name) for name in drawn.passages)
    assert all(question.labels[names.index(name)] == label for name, label in zip(drawn.passages, drawn.labels,
                                                                                  strict=True))  # fmt: skip
    if negatives == "hardest":
        assert drawn.negatives == question.negatives[: len(drawn.negatives)]


def test_other_negatives_in_another_epoch_or_with_another_seed() -> None:
    names = tuple(f"d{place}" for place in range(30))
    question = LabelledCandidates(Query("q", "who?"), names, (1, *[0] * 29))
    data = DrawnCandidates([question], toy_options(candidates_per_question=6))
    first = data[0]
    data.set_epoch(1)
    second = data[0]
    other = draw_candidates(question, toy_options(candidates_per_question=6, seed=1), 0)
    assert len({first.passages, second.passages, other.passages}) == 3
    assert all(found.positives == ("d0",) for found in (first, second, other))


def test_pairs_stand_for_their_question_and_passage() -> None:
    models = toy_models()
    batch = toy_collator(models)(QUESTIONS)
    pairs = [(question, name) for question in QUESTIONS for name in question.passages]
    assert batch["candidate_mask"].sum() == len(pairs)
    assert batch["relevance"][batch["candidate_mask"]].tolist() == [
        int(name in question.positives) for question, name in pairs
    ]
    for number, (question, name) in enumerate(pairs):
        read = batch["passage_ids"][batch["pair_passage"][number]][
            batch["passage_mask"][batch["pair_passage"][number]].bool()
        ]
        assert read.tolist() == PROMPT.passage_ids(models[3], [DOCUMENTS[name]])[0]
        written = batch["question_ids"][batch["pair_question"][number]]
        assert written[written != IGNORED].tolist() == PROMPT.query_ids(models[3], [question.query.text])[0]
        row = batch["pair_input_ids"][number][batch["pair_attention_mask"][number].bool()]
        assert (
            row.tolist()
            == PairInputs(models[1], 48).rows([(question.query.text, DOCUMENTS[name].contents)])[0]["input_ids"]
        )


def test_an_unknown_candidate_is_named() -> None:
    models = toy_models()
    stray = LabelledCandidates(Query("q", "who?"), ("oxygen", "nowhere"), (1, 0))
    with pytest.raises(UnknownDocumentError, match="nowhere"):
        toy_collator(models)([stray])


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
