"""One name for each source of query generators; saved and loaded they are the same; what cannot be says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, PreTrainedModel, RobertaConfig

from retgen.errors import ArtefactError, FormatError, UsageError
from retgen.models.generator_sources import load_generator, load_saved_generator, save_generator
from retgen.models.query_generator import QueryGenerator
from retgen.models.saving import save_model
from retgen.models.sources import load_model
from retgen.models.token_statistics import count_tokens
from retgen.models.warm_generator import QueryGeneratorModel
from retgen.types import Document
from tests.models.checkpoints import TEXTS, byte_level_tokenizer, save_encoder, save_seq2seq
from tests.models.generators import seq2seq

SOURCES = ("t5", "bart", "warm", "warm, byte-level", "scratch")
PASSAGES = [Document("1", TEXTS[0], "Oxygen"), Document("2", TEXTS[1])]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}


def source_of(tmp_path: Path, name: str) -> str:
    if name == "scratch":
        return "scratch:tiny"
    place = tmp_path / "source"
    if name == "t5":
        save_seq2seq(place)
    elif name == "bart":
        model, tokenizer = seq2seq("bart")
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    elif name == "warm":
        save_encoder(place, BertConfig(**SHAPE))
    else:
        save_encoder(place, RobertaConfig(**SHAPE), tokenizer=byte_level_tokenizer())
    return f"warm:{place}" if name.startswith("warm") else str(place)


def same_weights(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", SOURCES)
def test_a_generator_of_any_source_scores_samples_and_is_saved(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_generator(source_of(tmp_path, name), texts=TEXTS)
    assert not model.training
    generator = QueryGenerator(model, tokenizer)
    states = generator.encode(PASSAGES)
    (scored,) = generator.token_log_likelihoods(states, ["who discovered oxygen"], [(0, 1)])
    assert bool((scored < 0).all())
    assert len(generator.sample(PASSAGES, 2, max_new_tokens=5)[0]) == 2

    save_generator(model, tokenizer, tmp_path / "saved", made_by={"source": name})
    for loaded, reader in (load_saved_generator(tmp_path / "saved"), load_generator(str(tmp_path / "saved"))):
        assert type(loaded) is type(model)
        assert same_weights(loaded, model)
        again = QueryGenerator(loaded, reader)
        (scored_again,) = again.token_log_likelihoods(again.encode(PASSAGES), ["who discovered oxygen"], [(0, 1)])
        torch.testing.assert_close(scored_again, scored, atol=1e-5, rtol=1e-5)


def test_a_warm_generator_has_the_encoders_weights_and_the_corpus_frequencies(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, BertConfig(**SHAPE))
    model, tokenizer = load_generator(f"warm:{tmp_path}", texts=TEXTS, copy_head=False)
    assert isinstance(model, QueryGeneratorModel)
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        ours = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        theirs = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert model.config.eos_token_id == tokenizer.sep_token_id
    assert model.config.decoder_start_token_id == tokenizer.cls_token_id
    expected = count_tokens(tokenizer, TEXTS, len(tokenizer)).log_frequencies(tokenizer.sep_token_id)
    assert torch.equal(model.lm_head.bias.detach(), expected)
    assert float(expected.exp().sum()) == pytest.approx(1.0)
    assert set(tokenizer.all_special_ids) <= set(model.config.special_token_ids)


def test_a_warm_generators_options(tmp_path: Path) -> None:
    save_encoder(tmp_path, BertConfig(**SHAPE))
    model, _ = load_generator(
        f"warm:{tmp_path}", texts=TEXTS, encoder_layers=1, decoder_layers=1, frozen_encoder=True, copy_head=False
    )
    assert model.config.encoder["num_hidden_layers"] == 1
    assert len(model.decoder.block) == 1
    assert model.pointer is None
    assert not model.shared.weight.requires_grad
    with pytest.raises(UsageError, match="3 layers"):
        load_generator(f"warm:{tmp_path}", texts=TEXTS, encoder_layers=3)


def test_scratch_starts_near_the_uniform_distribution() -> None:
    torch.manual_seed(0)
    model, tokenizer = load_generator("scratch:tiny", texts=TEXTS)
    ids = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
    loss = model(**ids, labels=labels).loss
    assert 0.5 * math.log(len(tokenizer)) < float(loss.detach()) < 2 * math.log(len(tokenizer))


def test_a_scratch_generator_keeps_its_output_scale(tmp_path: Path) -> None:
    model, tokenizer = load_generator("scratch:tiny", texts=TEXTS)
    save_generator(model, tokenizer, tmp_path / "saved")
    loaded, _ = load_saved_generator(tmp_path / "saved")
    assert loaded.config.scale_decoder_outputs is model.config.scale_decoder_outputs is False


def test_a_saved_generator_can_be_thawed_but_gets_no_copy_head(tmp_path: Path) -> None:
    save_encoder(tmp_path / "bert", BertConfig(**SHAPE))
    model, tokenizer = load_generator(f"warm:{tmp_path / 'bert'}", texts=TEXTS, frozen_encoder=True, copy_head=False)
    save_generator(model, tokenizer, tmp_path / "saved")
    assert not load_generator(str(tmp_path / "saved"))[0].shared.weight.requires_grad
    thawed, _ = load_generator(str(tmp_path / "saved"), frozen_encoder=False)
    assert all(parameter.requires_grad for parameter in thawed.parameters())
    with pytest.raises(UsageError, match="copy_head=False"):
        load_generator(str(tmp_path / "saved"), copy_head=True)


def test_what_is_no_generator(tmp_path: Path) -> None:
    save_encoder(tmp_path / "bert", BertConfig(**SHAPE))
    save_seq2seq(tmp_path / "t5")
    with pytest.raises(FormatError, match="give warm:"):
        load_generator(str(tmp_path / "bert"))
    with pytest.raises(FormatError, match="encoder-decoder of type 't5'"):
        load_generator(f"warm:{tmp_path / 't5'}", texts=TEXTS)
    with pytest.raises(FormatError):
        load_generator(str(tmp_path / "nothing"))
    for source in ("scratch:tiny", f"warm:{tmp_path / 'bert'}"):
        with pytest.raises(UsageError, match="texts"):
            load_generator(source)
    with pytest.raises(UsageError, match="unknown preset"):
        load_generator("scratch:huge", texts=TEXTS)
    for source, option in (("scratch:tiny", "copy_head"), (str(tmp_path / "t5"), "frozen_encoder")):
        with pytest.raises(UsageError, match=f"no option '{option}'"):
            load_generator(source, texts=TEXTS, **{option: True})
    save_model(*load_model("scratch:tiny", texts=TEXTS), tmp_path / "unigen")
    with pytest.raises(ArtefactError, match="unigen model"):
        load_generator(str(tmp_path / "unigen"))


def test_a_torn_folder_is_refused(tmp_path: Path) -> None:
    model, tokenizer = load_generator("scratch:tiny", texts=TEXTS)
    save_generator(model, tokenizer, tmp_path / "saved")
    with pytest.raises(ArtefactError):
        save_generator(model, tokenizer, tmp_path / "saved")
    weights = tmp_path / "saved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtefactError):
        load_saved_generator(tmp_path / "saved")


def test_how_it_was_made_is_kept(tmp_path: Path) -> None:
    model, tokenizer = load_generator("scratch:tiny", texts=TEXTS)
    save_generator(model, tokenizer, tmp_path / "saved", made_by={"steps": 3})
    (manifest,) = [json.loads(path.read_text()) for path in (tmp_path / "saved").glob("*manifest*")]
    assert manifest["kind"] == "query generator"
    assert manifest["made_by"]["steps"] == 3
