"""Saved and loaded, a model is the same to the bit; what is not such a model is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig

from retgen.errors import ArtefactError, FormatError
from retgen.models.saving import load_saved, save_model
from retgen.models.sources import load_model
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.builders import VARIANTS, inputs, tiny_model
from tests.models.checkpoints import TEXTS, sentencepiece_tokenizer


def assert_same(model: UniGenForRetrievalAndAnswering, other: UniGenForRetrievalAndAnswering) -> None:
    expected, found = model.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert weight.dtype == found[name].dtype
        assert torch.equal(weight, found[name]), name
    assert (model.lm_head.weight is model.shared.weight) is (other.lm_head.weight is other.shared.weight)
    with torch.no_grad():
        one, two = (part.encode(*inputs()) for part in (model, other))
        labels = torch.randint(0, 40, (3, 4))
        for task in ("retrieval", "answer"):
            scores = [
                part.target_log_probabilities(task, encoded, labels) for part, encoded in ((model, one), (other, two))
            ]
            assert torch.equal(*scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_survives_bit_for_bit(tmp_path: Path, variant: str, dtype: torch.dtype) -> None:
    model = tiny_model(variant).to(dtype)
    model.save_pretrained(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    loaded: Any = UniGenForRetrievalAndAnswering.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loaded[1][name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not loaded[0].training
    assert_same(model, loaded[0])


def test_what_a_checkpoint_lacks_is_initialised_and_nothing_else(tmp_path: Path) -> None:
    plain = tiny_model("t5")
    plain.save_pretrained(tmp_path)
    torch.manual_seed(3)
    grown = UniGenForRetrievalAndAnswering.from_pretrained(tmp_path, copy_head=True, span_head=True)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, grown.state_dict()[name]), name
    fresh = tiny_model("t5", noise=0.0, copy_head=True)
    assert torch.equal(grown.retrieval_copy.rank_bias, fresh.retrieval_copy.rank_bias)
    assert torch.equal(grown.answer_copy.continuation, fresh.answer_copy.continuation)
    assert torch.equal(grown.answer_copy.gate.bias, fresh.answer_copy.gate.bias)
    assert float(grown.match_features.weight.detach().abs().max()) == 0.0


def test_auto_classes_know_it(tmp_path: Path) -> None:
    model = tiny_model("t5, copying")
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict()["copy_head"] is True
    assert isinstance(AutoModel.from_pretrained(tmp_path), UniGenForRetrievalAndAnswering)


def test_model_and_tokenizer_in_one_folder(tmp_path: Path) -> None:
    model, tokenizer = load_model("scratch:tiny", texts=TEXTS, copy_head=True)
    save_model(model, tokenizer, tmp_path / "model", made_by={"source": "scratch:tiny"})
    loaded, other = load_saved(tmp_path / "model")
    assert_same(model, loaded)
    text = "Who discovered Mars? | Mars » It has two moons. |"
    assert tokenizer(text)["input_ids"] == other(text)["input_ids"]
    with pytest.raises(ArtefactError, match="stands there already"):
        save_model(model, tokenizer, tmp_path / "model")
    save_model(model, tokenizer, tmp_path / "model", overwrite=True)


def test_a_trainers_checkpoint_loads_too(tmp_path: Path) -> None:
    model = tiny_model("t5")
    model.save_pretrained(tmp_path)
    sentencepiece_tokenizer().save_pretrained(tmp_path)
    assert_same(model, load_saved(tmp_path)[0])


def test_other_folders_are_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("t5"), sentencepiece_tokenizer()
    AutoModel.from_config(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "bert"
    )
    with pytest.raises(FormatError, match=r"bert: this is a model of type 'bert', not a saved UniGen model"):
        load_saved(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(FormatError, match=name):
            load_saved(tmp_path / name)

    save_model(model, tokenizer, tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="bytes where"):
        load_saved(tmp_path / "torn")
    (tmp_path / "torn" / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"weights cannot be read.*again"):
        load_saved(tmp_path / "torn")

    model.save_pretrained(tmp_path / "short")
    config = tmp_path / "short" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "copy_head": True}))
    with pytest.raises(ArtefactError, match=r"weights are missing or foreign, e\.g\. answer_copy"):
        load_saved(tmp_path / "short")
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(FormatError, match="no tokenizer"):
        load_saved(tmp_path / "bare")
