"""Models from other checkpoints hold their weights: the same logits, the same states, and nothing left at random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from retgen.errors import FormatError, UsageError
from retgen.models.outputs import TASKS
from retgen.models.session import UniGenSession
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.checkpoints import T5_KINDS, TEXTS, save_encoder, save_seq2seq

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
FAMILIES: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SMALL, max_position_embeddings=64),
    "roberta": RobertaConfig(**SMALL, max_position_embeddings=64, pad_token_id=0),
    "mpnet": MPNetConfig(**SMALL, max_position_embeddings=64, pad_token_id=0),
    "electra": ElectraConfig(**SMALL, embedding_size=32, max_position_embeddings=64),
    "distilbert": DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=40, max_position_embeddings=64),
}


def padded_batch(vocab: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return torch.randint(5, vocab, (2, 7)) * mask, mask


@pytest.mark.parametrize("kind", T5_KINDS)
@pytest.mark.parametrize("options", [{}, {"share_encoder": False}, {"span_head": True}], ids=str)
def test_each_decoder_is_the_checkpoints(tmp_path: Path, kind: str, options: dict[str, bool]) -> None:
    original = save_seq2seq(tmp_path, kind)
    model = UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path, **options)
    ids, mask = padded_batch(80)
    decoder_ids = torch.cat([torch.zeros(2, 1, dtype=torch.int64), torch.randint(2, 80, (2, 4))], dim=1)
    with torch.no_grad():
        expected = original(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids).logits
        encoded = model.encode(ids, mask)
        for task in TASKS:
            states = model.decoders(task)[0](
                inputs_embeds=model.shared(decoder_ids),
                encoder_hidden_states=encoded.states[task],
                encoder_attention_mask=mask,
            ).last_hidden_state
            known = expected.shape[-1]  # marks may have been added behind
            assert torch.allclose(model.vocabulary_logits(states)[..., :known], expected, atol=1e-5)
            scored = UniGenSession(model, encoded, task).score(decoder_ids.unsqueeze(1))
            assert torch.allclose(scored[:, 0, :, :known], expected, atol=1e-5)
    assert model.config.tie_word_embeddings is (kind == "v1.0")
    assert (model.lm_head.weight is model.shared.weight) is (kind == "v1.0")
    assert not model.training


def test_dropout_of_a_checkpoint_can_be_set(tmp_path: Path) -> None:
    save_seq2seq(tmp_path)
    kept = UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path)
    none = UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path, dropout=0.0)
    assert kept.encoder.dropout.p == kept.answer_decoder.dropout.p == 0.1
    assert none.encoder.dropout.p == none.answer_decoder.dropout.p == 0.0


def test_a_checkpoint_without_tokenizer_will_do_for_the_network_alone(tmp_path: Path) -> None:
    save_seq2seq(tmp_path, tokenizer=False)
    assert UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path).shared.num_embeddings == 96
    with pytest.raises(FormatError, match="no tokenizer can be loaded"):
        UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path, copy_head=True)


def test_marks_that_are_new_start_as_what_stood_for_them(tmp_path: Path) -> None:
    tokenizer_size = 90
    save_seq2seq(tmp_path, "v1.1", vocab_size=tokenizer_size)
    before = AutoTokenizer.from_pretrained(tmp_path)
    assert len(before) <= tokenizer_size
    model = UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path, copy_head=True, texts=TEXTS)
    end = model.config.docid_end_token_id
    assert end is not None
    assert "»" not in before.get_vocab()
    assert model.shared.num_embeddings == len(model.token_weights) == model.lm_head.out_features > end
    assert model.config.vocab_size == model.shared.num_embeddings
    assert bool(model.shared.weight[end].isfinite().all())
    assert model.token_weights[[0, 1, 2, end, model.config.boundary_token_id]].tolist() == [0.0] * 5
    assert int((model.token_weights == 0).sum()) == 5


def test_room_is_made_for_marks_in_a_tied_vocabulary(tmp_path: Path) -> None:
    original = save_encoder(tmp_path, FAMILIES["bert"], marks=False)
    model = UniGenForRetrievalAndAnswering.from_encoder(tmp_path, texts=TEXTS)
    known = original.config.vocab_size
    assert model.shared.num_embeddings == len(model.lm_head.bias) == len(model.token_weights) == known + 2
    assert {model.config.boundary_token_id, model.config.docid_end_token_id} == {known, known + 1}
    assert model.lm_head.weight is model.shared.weight
    assert torch.equal(model.shared.weight[:known], original.get_input_embeddings().weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_keeps_its_states(tmp_path: Path, family: str) -> None:
    original = save_encoder(tmp_path, FAMILIES[family])
    model = UniGenForRetrievalAndAnswering.from_encoder(tmp_path, texts=TEXTS)
    ids, mask = padded_batch(100)
    with torch.no_grad():
        # Some families count positions from the ids; the network gives them embeddings, so they count all.
        expected = original(inputs_embeds=original.get_input_embeddings()(ids), attention_mask=mask).last_hidden_state
        states = model.encode(ids, mask).states
    for task in TASKS:
        assert torch.allclose(states[task], expected, atol=1e-5)
    assert model.lm_head.weight is model.shared.weight
    assert not any("word_embeddings" in name or "pooler" in name for name, _ in model.named_parameters())


def test_an_encoders_decoders_are_fresh_and_unlike(tmp_path: Path) -> None:
    save_encoder(tmp_path, FAMILIES["bert"])
    model = UniGenForRetrievalAndAnswering.from_encoder(tmp_path, texts=TEXTS, decoder_layers=3, d_ff=48, dropout=0.2)
    assert len(model.retrieval_decoder.block) == len(model.answer_decoder.block) == 3
    names = dict(model.answer_decoder.named_parameters())
    for name, weight in model.retrieval_decoder.named_parameters():
        assert weight.dim() == 1 or not torch.equal(weight, names[name])
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.2}


def test_output_bias_and_weights_follow_the_corpus(tmp_path: Path) -> None:
    save_encoder(tmp_path, FAMILIES["bert"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = UniGenForRetrievalAndAnswering.from_encoder(tmp_path, texts=iter(["the the the mars", "the tin"]))
    the, mars, iron = (tokenizer("the mars iron", add_special_tokens=False)["input_ids"][i] for i in (0, 1, -1))
    bias, weights = model.lm_head.bias.detach(), model.token_weights
    assert float(bias.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert bias[the] > bias[mars] > bias[iron]
    assert bias[model.config.eos_token_id] > bias[iron]
    assert 0 < float(weights[the]) < float(weights[mars]) <= float(weights[iron]) == 1.0
    special = [*tokenizer.all_special_ids, model.config.boundary_token_id, model.config.docid_end_token_id]
    assert float(weights[special].abs().max()) == 0.0


def test_an_input_beyond_an_encoders_positions_is_an_error(tmp_path: Path) -> None:
    for family, longest in (("bert", 64), ("roberta", 63)):
        save_encoder(tmp_path / family, FAMILIES[family])
        model = UniGenForRetrievalAndAnswering.from_encoder(tmp_path / family, texts=TEXTS)
        ids = torch.full((1, longest + 1), 7)
        with torch.no_grad():
            model.encode(ids[:, :-1], torch.ones_like(ids[:, :-1]))
        with pytest.raises(UsageError, match=f"{longest + 1} tokens, and this encoder reads {longest} at most"):
            model.encode(ids, torch.ones_like(ids))


def test_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "bert", FAMILIES["bert"])
    save_encoder(tmp_path / "narrow", ElectraConfig(**SMALL, embedding_size=16))
    save_seq2seq(tmp_path / "t5")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"model_type": "t5"')
    seq2seq, encoder = UniGenForRetrievalAndAnswering.from_seq2seq, UniGenForRetrievalAndAnswering.from_encoder
    with pytest.raises(FormatError, match=r"type 'bert', where a T5-family .* give warm:"):
        seq2seq(tmp_path / "bert")
    with pytest.raises(FormatError, match=r"encoder-decoder of type 't5'.* without warm:"):
        encoder(tmp_path / "t5", texts=TEXTS)
    with pytest.raises(FormatError, match="not as wide as its states"):
        encoder(tmp_path / "narrow", texts=TEXTS)
    for name in ("empty", "torn", "missing"):
        with pytest.raises(FormatError, match=name):
            seq2seq(tmp_path / name)
        with pytest.raises(FormatError, match=name):
            encoder(tmp_path / name, texts=TEXTS)
    (tmp_path / "t5" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(FormatError, match="no model can be loaded"):
        seq2seq(tmp_path / "t5")


def test_options_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    save_seq2seq(tmp_path)
    with pytest.raises(UsageError, match=r"unknown model option 'copyhead'.*copy_head"):
        UniGenForRetrievalAndAnswering.from_seq2seq(tmp_path, copyhead=True)


def test_an_encoder_needs_texts(tmp_path: Path) -> None:
    save_encoder(tmp_path, FAMILIES["bert"])
    with pytest.raises(UsageError, match="no texts"):
        UniGenForRetrievalAndAnswering.from_encoder(tmp_path, texts=[])
