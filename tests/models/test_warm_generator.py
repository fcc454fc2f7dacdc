"""The warm query generator: probabilities of the mixture, invariances, caches, sampling, saving, freezing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache

from retgen.errors import UsageError
from retgen.models.outputs import IGNORED
from retgen.models.passage_encoder import PassageStates, gathered
from retgen.models.warm_generator import QueryGeneratorConfig, QueryGeneratorModel
from tests.models.builders import BERT_SHAPE, FIRST, PAD, T5_SHAPE, VOCAB, WIDTH, padded

START, END = 2, 3
HEADS = pytest.mark.parametrize("copy_head", [False, True], ids=["plain", "copying"])


def generator(*, copy_head: bool = True, seed: int = 0, noise: float = 0.5, **options: Any) -> QueryGeneratorModel:
    """A random model in which nothing is left at zero and no distribution is flat."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "encoder": BERT_SHAPE, "decoder": T5_SHAPE, "vocab_size": VOCAB, "d_model": WIDTH, "copy_head": copy_head,
        "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": START,
        "special_token_ids": list(range(FIRST)), **options,
    }  # fmt: skip
    model = QueryGeneratorModel(QueryGeneratorConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise / (parameter.shape[-1] ** 0.5 if parameter.dim() else 1))
    return model.eval()


def passages(seed: int = 0, lengths: tuple[int, ...] = (9, 5, 7), extra: int = 0) -> tuple[Tensor, Tensor]:
    """[CLS] words [SEP], padded at the right."""
    chance = torch.Generator().manual_seed(seed)
    rows = [[START, *torch.randint(FIRST, VOCAB, (n,), generator=chance).tolist(), END] for n in lengths]
    return padded(rows, extra=extra)


def targets(ids: Tensor, seed: int = 1) -> Tensor:
    """Queries of unequal length, half of their words from the passage, ended by EOS, -100 behind."""
    chance = torch.Generator().manual_seed(seed)
    rows = []
    for number, row in enumerate(ids):
        own = [int(token) for token in row[1:3]]
        rows.append([*own, *torch.randint(FIRST, VOCAB, (number + 1,), generator=chance).tolist(), END])
    return padded(rows, value=IGNORED)[0]


@HEADS
def test_probabilities_sum_to_one(copy_head: bool) -> None:
    model = generator(copy_head=copy_head)
    ids, mask = passages()
    logits = model(input_ids=ids, attention_mask=mask, labels=targets(ids)).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.exp().sum(dim=-1), torch.ones(logits.shape[:2]), atol=1e-5, rtol=0)


@HEADS
def test_targets_have_the_log_probabilities_of_the_whole_mixture(copy_head: bool) -> None:
    model = generator(copy_head=copy_head)
    ids, mask = passages()
    labels = targets(ids)
    states = model.get_encoder()(input_ids=ids, attention_mask=mask)
    scored = model.target_log_probabilities(states, mask, labels, ids)
    starts = model.prepare_decoder_input_ids_from_labels(labels)
    whole = model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=starts, source_ids=ids).logits
    known = labels != IGNORED
    expected = whole.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2) * known
    torch.testing.assert_close(scored, expected, atol=1e-5, rtol=1e-5)
    assert not scored[~known].any()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(loss, -expected.sum() / known.sum(), atol=1e-5, rtol=1e-5)


def test_the_mixture_is_gate_times_attention_and_the_rest_of_the_vocabulary() -> None:
    model = generator()
    ids, mask = passages()
    starts = torch.full((3, 1), START)
    states = model.get_encoder()(input_ids=ids, attention_mask=mask)
    mixed = model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=starts).logits[:, 0].exp()
    hidden = model.decoder(
        inputs_embeds=model.shared(starts), encoder_hidden_states=states[0], encoder_attention_mask=mask
    ).last_hidden_state[:, 0]
    assert model.pointer is not None
    for row in range(3):
        scores = torch.stack(
            [
                model.pointer.query(hidden[row]) @ model.pointer.key(states[0][row, place]) / WIDTH**0.5
                if int(token) >= FIRST
                else torch.tensor(-torch.inf)
                for place, token in enumerate(ids[row])
            ]
        ).softmax(dim=0)
        gate = model.pointer.gate(hidden[row]).sigmoid()
        expected = (1 - gate) * model.lm_head(hidden[row]).softmax(dim=0)
        for place, token in enumerate(ids[row]):
            expected[token] += gate[0] * scores[place]
        torch.testing.assert_close(mixed[row], expected, atol=1e-5, rtol=1e-4)


def test_special_tokens_and_padding_are_never_copied() -> None:
    model = generator()
    with torch.no_grad():
        model.pointer.gate.bias.fill_(60.0)  # type: ignore[union-attr]
        model.pointer.gate.weight.zero_()  # type: ignore[union-attr]
    ids, mask = passages(extra=3)
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=torch.full((3, 1), START)).logits[:, 0]
    for row in range(3):
        words = {int(token) for token in ids[row] if token >= FIRST}
        written = set(torch.nonzero(logits[row].exp() > 1e-8).flatten().tolist())
        assert written
        assert written <= words


def test_a_passage_without_words_is_written_about_without_copying() -> None:
    copying, ids, mask = generator(), torch.tensor([[START, END]]), torch.ones(1, 2, dtype=torch.long)
    plain = generator(copy_head=False)
    plain.load_state_dict(copying.state_dict(), strict=False)
    starts = torch.tensor([[START]])
    one, other = (
        model(input_ids=ids, attention_mask=mask, decoder_input_ids=starts).logits for model in (copying, plain)
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@HEADS
def test_padding_and_batching_change_nothing(copy_head: bool) -> None:
    model = generator(copy_head=copy_head)
    ids, mask = passages()
    labels = targets(ids)
    together = model(input_ids=ids, attention_mask=mask, labels=labels).logits
    wide_ids, wide_mask = passages(extra=6)
    wide = model(input_ids=wide_ids, attention_mask=wide_mask, labels=labels).logits
    torch.testing.assert_close(wide, together, atol=1e-5, rtol=1e-5)
    for row in range(3):
        length, steps = int(mask[row].sum()), int((labels[row] != IGNORED).sum())
        alone = model(input_ids=ids[row : row + 1, :length], labels=labels[row : row + 1, :steps]).logits
        torch.testing.assert_close(alone[0], together[row, :steps], atol=1e-5, rtol=1e-5)


@HEADS
def test_steps_with_a_cache_equal_whole_targets(copy_head: bool) -> None:
    model = generator(copy_head=copy_head)
    ids, mask = passages()
    labels = targets(ids).masked_fill(targets(ids) == IGNORED, END)
    starts = model.prepare_decoder_input_ids_from_labels(labels)
    states = model.get_encoder()(input_ids=ids, attention_mask=mask)
    whole = model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=starts).logits
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for step in range(starts.shape[1]):
        output = model(
            encoder_outputs=states,
            attention_mask=mask,
            decoder_input_ids=starts[:, step : step + 1],
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        torch.testing.assert_close(output.logits[:, 0], whole[:, step], atol=1e-5, rtol=1e-5)


@HEADS
def test_generation_with_and_without_a_cache(copy_head: bool) -> None:
    model = generator(copy_head=copy_head)
    ids, mask = passages()
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "top_k": 5, "num_return_sequences": 4}
    sampled = []
    for use_cache in (True, False):
        torch.manual_seed(7)
        sampled.append(model.generate(input_ids=ids, attention_mask=mask, use_cache=use_cache, **options))
    assert sampled[0].shape[0] == 12
    assert torch.equal(*sampled)
    assert bool((sampled[0][:, 0] == START).all())
    greedy = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False)
    assert torch.equal(
        greedy, model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, use_cache=False)
    )
    beams = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, num_beams=3, do_sample=False)
    assert beams.shape[0] == 3


def test_samples_of_a_passage_are_of_that_passage() -> None:
    # A gate that only copies writes words of its own passage, so a mix-up of rows would show.
    model = generator()
    with torch.no_grad():
        model.pointer.gate.bias.fill_(60.0)  # type: ignore[union-attr]
        model.pointer.gate.weight.zero_()  # type: ignore[union-attr]
    ids, mask = passages(lengths=(4, 6, 5))
    sampled = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=True, num_return_sequences=3
    )
    for number, row in enumerate(sampled):
        assert {int(token) for token in row[1:]} <= {int(token) for token in ids[number // 3] if token >= FIRST}


@HEADS
def test_saved_and_loaded_bit_for_bit(tmp_path: Path, copy_head: bool) -> None:
    model = generator(copy_head=copy_head, frozen_encoder=True)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is QueryGeneratorModel
    assert loaded.config.to_dict() == {**model.config.to_dict(), "_name_or_path": loaded.config._name_or_path}
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.lm_head.weight is loaded.shared.weight is loaded.encoder.embed_tokens.weight
    ids, mask = passages()
    one, other = (part(input_ids=ids, attention_mask=mask, labels=targets(ids)) for part in (model, loaded))
    # Where weights lie in memory may decide the last bit of a product.
    torch.testing.assert_close(one.logits, other.logits, atol=1e-6, rtol=1e-6)
    assert trained(model) == trained(loaded)


def trained(model: QueryGeneratorModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_frozen_encoder_gets_no_gradient_and_drops_nothing_out() -> None:
    shape = {**BERT_SHAPE, "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    model = generator(encoder=shape, frozen_encoder=True).train()
    ids, mask = passages()
    encode = model.get_encoder()
    assert torch.equal(encode(ids, mask)[0], encode(ids, mask)[0])
    output = model(input_ids=ids, attention_mask=mask, labels=targets(ids))
    assert output.logits is None
    output.loss.backward()
    fresh = ("decoder.", "pointer.", "lm_head.bias")
    assert all(name.startswith(fresh) for name in trained(model))
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == name.startswith(fresh), name
    model.freeze_encoder(False)
    assert not torch.equal(encode(ids, mask)[0], encode(ids, mask)[0])
    model(input_ids=ids, attention_mask=mask, labels=targets(ids)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gathered_states_are_those_of_repeated_passages() -> None:
    model = generator()
    ids, mask = passages()
    rows = torch.tensor([2, 0, 0, 1, 2])
    states = gathered(model.get_encoder()(ids, mask), rows)
    assert isinstance(states, PassageStates)
    labels = targets(ids[rows])
    one = model(encoder_outputs=states, attention_mask=mask[rows], labels=labels)
    other = model(input_ids=ids[rows], attention_mask=mask[rows], labels=labels)
    torch.testing.assert_close(one.loss, other.loss, atol=1e-5, rtol=1e-5)


def test_a_copy_head_without_tokens_says_so() -> None:
    model = generator()
    ids, mask = passages()
    states = PassageStates(last_hidden_state=model.get_encoder()(ids, mask)[0])
    starts = torch.full((3, 1), START)
    with pytest.raises(UsageError, match="source_ids"):
        model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=starts)
    model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=starts, source_ids=ids)


def test_what_cannot_be_decoded_says_so() -> None:
    model = generator()
    ids, mask = passages()
    with pytest.raises(UsageError, match="nothing to decode"):
        model(input_ids=ids, attention_mask=mask)
    with pytest.raises(UsageError, match="reads passages"):
        model(labels=targets(ids))
    with pytest.raises(UsageError, match="encoder reads 64 at most"):
        model(input_ids=torch.full((1, 65), FIRST), labels=targets(ids))
    with pytest.raises(UsageError, match="load_generator"):
        QueryGeneratorModel(QueryGeneratorConfig())


def test_scores_stay_fp32_in_bf16() -> None:
    model = generator().to(torch.bfloat16)
    ids, mask = passages()
    output = model(input_ids=ids, attention_mask=mask, labels=targets(ids))
    assert output.logits.dtype == torch.float32
    torch.testing.assert_close(output.logits.exp().sum(dim=-1), torch.ones(output.logits.shape[:2]), atol=1e-5, rtol=0)
    # Rounded to bf16 there would be far fewer values than tokens.
    assert len(output.logits[0, 0].unique()) > VOCAB * 0.8
