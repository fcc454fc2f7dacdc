"""Fusion-in-Decoder: one passage is the plain model, every passage matters, padding and batches do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from retgen.errors import UsageError
from retgen.models.closed_book import ClosedBookReader
from retgen.models.fid import FiDReader, attention_shares
from retgen.models.gradient_checkpointing import enable_checkpointing
from retgen.models.reader_format import ReaderFormat
from retgen.models.readings import Reading
from retgen.types import Document
from tests.models.generators import SEQ2SEQ, seq2seq
from tests.models.readers import ANSWERS, DOCUMENTS, FORMAT, READINGS, plain_scores, reader, target_ids


def logits_of(made: FiDReader, reading: Reading, answer: str) -> torch.Tensor:
    """The decoder's own logits over a question's fused passages."""
    batch = made.batch([reading], [answer])
    encoded = made.encode(batch)
    model: Any = made.model
    with torch.no_grad():
        return model(
            encoder_outputs=encoded.outputs,
            attention_mask=encoded.mask,
            decoder_input_ids=batch["decoder_input_ids"],
        ).logits[0]


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_with_one_passage_it_is_the_plain_model(kind: str) -> None:
    made = reader(FiDReader, kind)
    reading, target = READINGS[1], target_ids(made, "two moons")
    (row,) = made.input_ids(reading)
    found = made.log_likelihoods(made.batch([reading], ["two moons"]))
    assert found.item() == pytest.approx(plain_scores(made, row, target).sum().item(), abs=1e-4)
    # And so does it write: transformers' own encoding and generation, of the same input.
    model: Any = made.model
    ids = torch.tensor([row])
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=FORMAT.max_answer_tokens + 9,
        do_sample=False,
        num_beams=1,
    )[0].tolist()[len(made.lead) :][: FORMAT.max_answer_tokens]
    (answer,) = made.write([reading])
    assert answer.token_ids == tuple(written[: len(answer.token_ids)])
    whole = (*answer.token_ids, *written[len(answer.token_ids) : answer.tokens])
    assert answer.score == pytest.approx(plain_scores(made, row, whole).sum().item(), abs=1e-4)
    assert answer.shares == (1.0,)


def test_with_one_passage_its_states_are_bitwise_the_encoders() -> None:
    made = reader(FiDReader)
    batch = made.batch([READINGS[1]])
    plain = made.model.get_encoder()(batch["input_ids"], attention_mask=batch["attention_mask"])
    encoded = made.encode(batch)
    assert torch.equal(encoded.outputs[0], plain[0])
    assert torch.equal(encoded.mask, batch["attention_mask"])


@pytest.mark.parametrize("kind", ["t5", "bart", "warm"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_swapping_any_passage_changes_the_decoders_logits(kind: str, place: int) -> None:
    made = reader(FiDReader, kind)
    before = logits_of(made, READINGS[0], ANSWERS[0])
    passages = list(READINGS[0].passages)
    passages[place] = Document("x", "The Nile flows through Egypt.", "Nile")
    after = logits_of(made, Reading(READINGS[0].question, tuple(passages), READINGS[0].scores), ANSWERS[0])
    assert after.shape == before.shape
    assert float((after - before).abs().max()) > 1e-3
    # And the same passage in its place changes nothing.
    passages[place] = copy.copy(READINGS[0].passages[place])
    assert torch.equal(logits_of(made, Reading(READINGS[0].question, tuple(passages)), ANSWERS[0]), before)


def test_states_are_laid_end_to_end_without_padding() -> None:
    made = reader(FiDReader)
    batch = made.batch(READINGS)
    plain = made.model.get_encoder()(batch["input_ids"], attention_mask=batch["attention_mask"])[0]
    encoded = made.encode(batch)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    start = 0
    for number, reading in enumerate(READINGS):
        own = range(start, start + len(reading.passages))
        start += len(reading.passages)
        expected = torch.cat([plain[row, : lengths[row]] for row in own])
        assert torch.equal(encoded.outputs[0][number, : len(expected)], expected)
        assert encoded.mask[number].tolist() == [1] * len(expected) + [0] * (encoded.mask.shape[1] - len(expected))
        owners = [passage for passage, row in enumerate(own) for _ in range(lengths[row])]
        assert encoded.passage[number, : len(expected)].tolist() == owners
        assert not bool((encoded.passage[number, len(expected) :] + 1).any())


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_batches_and_padding_do_not_matter(kind: str) -> None:
    made = reader(FiDReader, kind)
    together = made.log_likelihoods(made.batch(READINGS, ANSWERS))
    apart = [made.log_likelihoods(made.batch([one], [answer])) for one, answer in zip(READINGS, ANSWERS, strict=True)]
    torch.testing.assert_close(together, torch.cat(apart), atol=2e-4, rtol=1e-5)
    written = made.write(READINGS)
    for one, alone in zip(written, [made.write([reading])[0] for reading in READINGS], strict=True):
        assert one.token_ids == alone.token_ids
        assert one.score == pytest.approx(alone.score, abs=2e-4)
        assert one.shares == pytest.approx(alone.shares, abs=1e-4)


@pytest.mark.parametrize("kind", ["t5", "bart", "warm"])
def test_shares_are_the_decoders_cross_attention(kind: str) -> None:
    made = reader(FiDReader, kind)
    batch = made.batch(READINGS, ANSWERS)
    encoded = made.encode(batch)
    with torch.no_grad():
        encoded_apart = [made.encode(made.batch([reading])) for reading in READINGS]
    found = attention_shares(made.model, encoded, batch["labels"], batch["decoder_input_ids"])
    for number, (reading, alone) in enumerate(zip(READINGS, encoded_apart, strict=True)):
        assert len(found[number]) == len(reading.passages)
        assert sum(found[number]) == pytest.approx(1.0)
        # By hand, over one question without padding.
        steps = int((batch["labels"][number] != -100).sum()) + len(made.lead) - 1
        model = copy.deepcopy(made.model)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            layers = model(
                encoder_outputs=alone.outputs,
                attention_mask=alone.mask,
                decoder_input_ids=batch["decoder_input_ids"][number : number + 1, :steps],
                output_attentions=True,
            ).cross_attentions
        mass = torch.stack(layers)[:, 0, :, len(made.lead) - 1 :].mean(dim=(0, 1, 2))
        for passage, share in enumerate(found[number]):
            assert share == pytest.approx(float(mass[alone.passage[0] == passage].sum()), abs=1e-5)
    assert made.model.config._attn_implementation != "eager"


def test_gradient_checkpointing_changes_no_gradient() -> None:
    grads = []
    for checkpointing in (False, True):
        model, tokenizer = seq2seq("t5")
        model = copy.deepcopy(model)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        made = FiDReader(model, tokenizer, FORMAT)
        if checkpointing:
            enable_checkpointing(model)
        model.train()
        made.loss(made.batch(READINGS, ANSWERS)).backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in grads[0].items():
        assert grad is not None, name
        torch.testing.assert_close(grad, grads[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_the_loss_is_the_mean_over_all_target_tokens() -> None:
    made = reader(FiDReader)
    tokens = [len(target_ids(made, answer)) for answer in ANSWERS]
    apart = [made.loss(made.batch([r], [a])).item() for r, a in zip(READINGS, ANSWERS, strict=True)]
    expected = sum(n * loss for n, loss in zip(tokens, apart, strict=True)) / sum(tokens)
    assert made.loss(made.batch(READINGS, ANSWERS)).item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_transformers_own_for_one_passage() -> None:
    made = reader(FiDReader)
    batch = made.batch([READINGS[1]], ["two moons"])
    model: Any = made.model
    own = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    assert made.loss(batch).item() == pytest.approx(own.item(), rel=1e-5)


def test_scores_of_a_model_in_bf16_are_fp32() -> None:
    model, tokenizer = seq2seq("t5")
    made = FiDReader(copy.deepcopy(model).to(torch.bfloat16), tokenizer, FORMAT)
    values = made.log_likelihoods(made.batch(READINGS, ANSWERS))
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.to(torch.bfloat16).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = reader(FiDReader).log_likelihoods(reader(FiDReader).batch(READINGS, ANSWERS))
    assert autocast.dtype == torch.float32
    assert not torch.equal(autocast, autocast.to(torch.bfloat16).float())


def test_beams_find_an_answer_at_least_as_likely_by_its_mean() -> None:
    made = reader(FiDReader)
    greedy, beams = made.write(READINGS), made.write(READINGS, num_beams=4)
    assert sum(b.score / b.tokens for b in beams) >= sum(g.score / g.tokens for g in greedy) - 1e-4


# Closed book


def test_closed_book_never_reads_a_passage(monkeypatch: pytest.MonkeyPatch) -> None:
    made = reader(ClosedBookReader)
    bare = [Reading(reading.question) for reading in READINGS]
    seen: list[str] = []
    real = made.tokenizer.__class__.__call__
    monkeypatch.setattr(
        made.tokenizer.__class__,
        "__call__",
        lambda self, text, *a, **k: (seen.append(str(text)), real(self, text, *a, **k))[1],
    )
    assert made.write(READINGS) == made.write(bare)
    assert seen
    assert not any(document.text[:12] in text for text in seen for document in DOCUMENTS)
    one, other = (made.batch(readings, ANSWERS) for readings in (READINGS, bare))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_closed_book_is_the_plain_model() -> None:
    made = reader(ClosedBookReader)
    (row,) = made.input_ids(READINGS[0])
    assert row == made.tokenizer(f"question: {READINGS[0].question}")["input_ids"]
    target = target_ids(made, ANSWERS[0])
    found = made.log_likelihoods(made.batch(READINGS[:1], ANSWERS[:1])).item()
    assert found == pytest.approx(plain_scores(made, row, target).sum().item(), abs=1e-4)


# The format


def test_passages_are_cut_and_questions_are_not() -> None:
    _, tokenizer = seq2seq("t5")
    written = ReaderFormat(max_input_tokens=60, max_question_tokens=50)
    (row,) = written.input_ids(tokenizer, "who found it {text}", [Document("d", "It was cold. " * 40, "A title")])
    assert len(row) <= 60
    text = tokenizer.decode(row, skip_special_tokens=True)
    assert "context:" in text
    (whole,) = ReaderFormat().input_ids(tokenizer, "who found it {text}", [Document("d", "It was cold.", "A title")])
    start = tokenizer.decode(whole, skip_special_tokens=True).split(" title:")[0]
    assert text.startswith(start)
    # A question may leave no room for a passage, but it never takes more than there is.
    (long,) = written.input_ids(tokenizer, "iron gold " * 90, [Document("d", "It was cold.", "A title")])
    assert len(long) <= 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"passage_template": "{question} {context}"},
        {"passage_template": "{text}"},
        {"question_template": "who?"},
        {"question_template": "{question"},
        {"max_input_tokens": 50, "max_question_tokens": 50},
        {"max_answer_tokens": 1},
    ],
)
def test_formats_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ReaderFormat(**wrong)


def test_bad_input_is_named() -> None:
    with pytest.raises(UsageError, match="reads passages"):
        reader(FiDReader).write([Reading("who?")])
    model, tokenizer = seq2seq("bart")
    with pytest.raises(UsageError, match="at most 160 tokens"):
        FiDReader(model, tokenizer)
    made = reader(FiDReader)
    with pytest.raises(UsageError, match="at least 1"):
        made.write(READINGS, num_beams=0)
    training = copy.deepcopy(made.model).train()
    with pytest.raises(UsageError, match="training mode"):
        FiDReader(training, made.tokenizer, FORMAT).write(READINGS)
