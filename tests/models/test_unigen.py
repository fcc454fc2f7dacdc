"""The joint loss is Eq. 7 over the examples that have targets, whatever they are batched with; gradients reach all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from retgen.errors import UsageError
from retgen.models.config import UniGenConfig
from retgen.models.outputs import TASKS, Task
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.builders import (
    BAR,
    EOS,
    FIRST,
    T5_SHAPE,
    VARIANTS,
    VOCAB,
    docid_in,
    inputs,
    padded,
    tiny_model,
)


def targets(seed: int = 0) -> dict[str, Tensor]:
    """Docids of the inputs' first blocks, words of them and others as answers, a span in each first sentence."""
    ids, _ = inputs(seed)
    docids = [docid_in(row, 0) for row in ids.tolist()]
    answers = [[docids[0][0], EOS], [*docids[1][:-1], FIRST, VOCAB - 1, EOS], [FIRST + 1, docids[2][-2], EOS]]
    spans = [[[row.index(BAR) + len(docid) + 1] * 2] for row, docid in zip(ids.tolist(), docids, strict=True)]
    return {
        "docid_labels": padded(docids, value=-100)[0],
        "answer_labels": padded(answers, value=-100)[0],
        "answer_spans": torch.tensor(spans),
    }


@pytest.fixture(params=VARIANTS, scope="module")
def model(request: pytest.FixtureRequest) -> UniGenForRetrievalAndAnswering:
    return tiny_model(request.param)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_loss_is_the_weighted_sum_of_its_parts(model: UniGenForRetrievalAndAnswering, weight: float) -> None:
    model = copy.deepcopy(model)
    model.config.retrieval_loss_weight, model.config.span_loss_weight = weight, 0.3
    with torch.no_grad():
        output = model(*inputs(), **targets())
        expected = weight * output.retrieval_loss + (1 - weight) * output.answer_loss
        assert (output.span_loss is not None) is (model.span_head is not None)
        if output.span_loss is not None:
            expected = expected + 0.3 * output.span_loss
    assert float(output.loss) == pytest.approx(float(expected), abs=1e-6)


def test_parts_are_sums_over_tokens_averaged_over_examples(model: UniGenForRetrievalAndAnswering) -> None:
    labels = targets()
    by_tokens = copy.deepcopy(model)
    by_tokens.config.loss_reduction = "token_mean"
    with torch.no_grad():
        output, mean = model(*inputs(), **labels), by_tokens(*inputs(), **labels)
        encoded = model.encode(*inputs())
        for task, name in (("retrieval", "docid_labels"), ("answer", "answer_labels")):
            scores = model.target_log_probabilities(task, encoded, labels[name])
            assert float(scores.max()) <= 0.0
            assert float(scores[labels[name] == -100].abs().sum()) == 0.0
            assert float(output[f"{task}_loss"]) == pytest.approx(float(-scores.sum(dim=1).mean()), rel=1e-5)
            known = int((labels[name] != -100).sum())
            assert float(mean[f"{task}_loss"]) == pytest.approx(float(-scores.sum()) / known, rel=1e-5)


def test_without_copy_head_the_loss_is_cross_entropy() -> None:
    model, labels = tiny_model("t5", loss_reduction="token_mean"), targets()["docid_labels"]
    with torch.no_grad():
        encoded = model.encode(*inputs())
        shifted = torch.cat((torch.full((3, 1), model.start_token_id), labels[:, :-1].clamp(min=0)), dim=1)
        states = model.retrieval_decoder(
            inputs_embeds=model.shared(shifted),
            encoder_hidden_states=encoded.states["retrieval"],
            encoder_attention_mask=encoded.attention_mask,
        ).last_hidden_state
        expected = torch.nn.functional.cross_entropy(model.vocabulary_logits(states).flatten(0, 1), labels.flatten())
        assert float(model(*inputs(), docid_labels=labels).retrieval_loss) == pytest.approx(float(expected), abs=1e-5)


def test_examples_without_a_target_are_left_out(model: UniGenForRetrievalAndAnswering) -> None:
    labels = targets()
    fewer = {name: value.clone() for name, value in labels.items()}
    fewer["docid_labels"][1] = -100
    fewer["answer_labels"][0] = -100
    fewer["answer_spans"][2] = -1
    with torch.no_grad():
        found = model(*inputs(), **fewer)
        ids, mask = inputs()
        for name, kept in (("docid_labels", [0, 2]), ("answer_labels", [1, 2]), ("answer_spans", [0, 1])):
            part = {"docid_labels": "retrieval_loss", "answer_labels": "answer_loss", "answer_spans": "span_loss"}[name]
            alone = model(ids[kept], mask[kept], **{name: labels[name][kept]})
            expected = getattr(alone, part)
            if expected is not None:
                assert float(getattr(found, part)) == pytest.approx(float(expected), abs=1e-4)
        none = model(*inputs(), docid_labels=torch.full((3, 2), -100))
        assert none.retrieval_loss is None
        assert none.answer_loss is None
        assert float(none.loss) == 0.0


def test_a_span_that_cannot_be_pointed_at_is_no_target() -> None:
    model, (ids, mask) = tiny_model("t5, copying"), inputs()
    spans = targets()["answer_spans"]
    with torch.no_grad():
        expected = model(ids, mask, answer_spans=spans).span_loss
        widened = torch.cat((spans, torch.tensor([[[0, 0]]] * 3)), dim=1)  # in the question
        assert torch.equal(model(ids, mask, answer_spans=widened).span_loss, expected)
        assert model(ids, mask, answer_spans=torch.zeros((3, 1, 2), dtype=torch.int64)).span_loss is None


@pytest.mark.parametrize("task", TASKS)
def test_neither_padding_nor_neighbours_change_a_score(model: UniGenForRetrievalAndAnswering, task: Task) -> None:
    labels = targets()["docid_labels"]
    with torch.no_grad():
        together = model.target_log_probabilities(task, model.encode(*inputs()), labels)
        wider = torch.cat((labels, torch.full((3, 2), -100)), dim=1)
        padded_more = model.target_log_probabilities(task, model.encode(*inputs(extra=5)), wider)
        assert torch.allclose(padded_more[:, : labels.shape[1]], together, atol=1e-4)
        ids, mask = inputs()
        for row in range(3):
            length, known = int(mask[row].sum()), int((labels[row] != -100).sum())
            alone = model.target_log_probabilities(
                task,
                model.encode(ids[row : row + 1, :length], mask[row : row + 1, :length]),
                labels[row : row + 1, :known],
            )
            assert torch.allclose(alone[0], together[row, :known], atol=1e-4)
        order = [2, 0, 1]
        turned = model.target_log_probabilities(task, model.encode(ids[order], mask[order]), labels[order])
        assert torch.allclose(turned, together[order], atol=1e-4)


def test_spans_do_not_depend_on_padding() -> None:
    model = tiny_model("t5, copying")
    with torch.no_grad():
        narrow = model.span_log_probabilities(model.encode(*inputs()))
        wide = model.span_log_probabilities(model.encode(*inputs(extra=4)))
    assert torch.allclose(wide[:, : narrow.shape[1]], narrow, atol=1e-4)
    assert torch.allclose(narrow.exp().sum(dim=1), torch.ones(3, 2), atol=1e-5)


def reached(model: UniGenForRetrievalAndAnswering, **labels: Tensor) -> set[str]:
    model = copy.deepcopy(model).train()
    model(*inputs(), **labels).loss.backward()
    return {
        name for name, part in model.named_parameters() if part.grad is not None and bool(part.grad.abs().sum() > 0)
    }


def test_gradients_reach_every_part(model: UniGenForRetrievalAndAnswering) -> None:
    assert {name for name, _ in model.named_parameters()} == reached(model, **targets())


def test_each_task_trains_its_own_decoder_and_the_encoder() -> None:
    for task, name in (("retrieval", "docid_labels"), ("answer", "answer_labels")):
        other = "answer" if task == "retrieval" else "retrieval"
        found = reached(tiny_model("t5, copying"), **{name: targets()[name]})
        parts = {part.split(".")[0] for part in found}
        assert {"encoder", "shared", f"{task}_decoder", f"{task}_copy", "lm_head", "match_features"} <= parts
        assert not parts & {f"{other}_decoder", f"{other}_copy", "span_head"}
        found = reached(tiny_model("two encoders"), **{name: targets()[name]})
        parts = {part.split(".")[0] for part in found}
        assert ("encoder" in parts) is (task == "retrieval")
        assert ("answer_encoder" in parts) is (task == "answer")


def test_an_unshared_encoder_is_another() -> None:
    shared, apart = tiny_model("t5"), tiny_model("two encoders")
    with torch.no_grad():
        states = shared.encode(*inputs()).states
        assert states["retrieval"] is states["answer"]
        states = apart.encode(*inputs()).states
    assert not torch.allclose(states["retrieval"], states["answer"])
    assert not set(map(id, apart.encoder.parameters())) & set(map(id, apart.answer_encoder.parameters()))


def test_gradient_checkpointing_changes_nothing() -> None:
    model = tiny_model("t5, copying").train()
    model(*inputs(), **targets()).loss.backward()
    expected = [part.grad.clone() for part in model.parameters() if part.grad is not None]
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(*inputs(), **targets()).loss.backward()
    found = [part.grad for part in model.parameters() if part.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_scores_stay_fp32_in_bf16(how: str) -> None:
    for variant in ("t5", "t5, copying", "bert, copying"):
        model = tiny_model(variant)
        if how == "weights":
            model = model.to(torch.bfloat16)
        labels = torch.arange(FIRST, VOCAB).unsqueeze(1)
        ids, mask = (part[:1].expand(len(labels), -1) for part in inputs())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            scores = model.target_log_probabilities("retrieval", model.encode(ids, mask), labels)
        assert scores.dtype == torch.float32
        assert len(scores.unique()) > 0.9 * len(labels)
        assert not torch.equal(scores, scores.bfloat16().float())
        exact = tiny_model(variant)
        with torch.no_grad():
            expected = exact.target_log_probabilities("retrieval", exact.encode(ids, mask), labels)
        assert torch.allclose(scores, expected, atol=0.5)


def test_the_vocabulary_can_grow() -> None:
    model = tiny_model("t5, copying")
    before = model.token_weights.clone()
    model.resize_token_embeddings(VOCAB + 3, mean_resizing=False)
    assert model.config.vocab_size == model.lm_head.out_features == len(model.lm_head.bias) == VOCAB + 3
    assert torch.equal(model.token_weights, torch.cat((before, torch.zeros(3))))
    with torch.no_grad():
        assert bool(torch.isfinite(model(*inputs(), **targets()).loss))


def test_configurations_that_cannot_be_are_refused() -> None:
    good: dict[str, Any] = {"encoder": T5_SHAPE, "decoder": T5_SHAPE, "vocab_size": VOCAB, "d_model": 32}
    for change, message in (
        ({"encoder": None}, "needs its encoder's"),
        ({"loss_reduction": "mean"}, "unknown loss_reduction 'mean'"),
        ({"eos_token_id": None}, "needs its eos_token_id"),
    ):
        with pytest.raises(UsageError, match=message):
            UniGenForRetrievalAndAnswering(UniGenConfig(**{**good, **change}))
    model = tiny_model("t5")
    encoded = model.encode(*inputs())
    with pytest.raises(UsageError, match="no span head"):
        model.span_log_probabilities(encoded)
    bert = tiny_model("bert, copying")
    with pytest.raises(UsageError, match="reads 64 at most"):
        bert.encode(torch.full((1, 65), FIRST), torch.ones((1, 65)))
