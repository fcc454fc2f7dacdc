"""The last layer for the first token alone: same logits, same gradients, less work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from retgen.models.first_token import FAMILIES, first_token_only
from retgen.models.pair_inputs import PairInputs
from tests.rerank.classifiers import FAMILIES as CHECKPOINTS
from tests.rerank.classifiers import pair_tokenizer, save_classifier

PAIRS = [("who", "gold"), ("who found oxygen", "oxygen iron gold " * 9), ("iron", "")]


def batch(family: str) -> dict[str, torch.Tensor]:
    tokenizer = pair_tokenizer()
    inputs = PairInputs(tokenizer, 40)(PAIRS)
    return {name: value for name, value in inputs.items() if family == "bert" or name != "token_type_ids"}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", CHECKPOINTS)
def test_logits_and_gradients_are_those_of_the_whole_layer(family: str, implementation: str, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        save_classifier(tmp_path / "model", family), attn_implementation=implementation
    ).eval()
    inputs = batch(family)
    whole = model(**inputs).logits
    whole.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    with first_token_only(model):
        short = model(**inputs)
        states = model.base_model(**inputs).last_hidden_state
    assert states.shape[1] == (1 if family in FAMILIES else inputs["input_ids"].shape[1])
    torch.testing.assert_close(short.logits, whole, atol=1e-5, rtol=1e-5)
    short.logits.sum().backward()
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-4)
    assert model.base_model(**inputs).last_hidden_state.shape[1] == inputs["input_ids"].shape[1]


def test_it_is_undone_after_an_error(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_classifier(tmp_path / "model")).eval()
    with pytest.raises(RuntimeError, match="stop"), first_token_only(model), first_token_only(model):
        raise RuntimeError("stop")
    assert model.base_model(**batch("bert")).last_hidden_state.shape[1] > 1


def test_dropout_falls_on_it_in_training(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        save_classifier(tmp_path / "model"), attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0
    ).train()
    model.base_model.encoder.layer[0].eval()
    model.dropout.p = 0.0
    with first_token_only(model):
        assert not torch.equal(model(**batch("bert")).logits, model(**batch("bert")).logits)


def test_with_gradient_checkpointing_the_layer_stays_whole(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_classifier(tmp_path / "model")).train()
    model.gradient_checkpointing_enable()
    with first_token_only(model):
        assert model.base_model(**batch("bert")).last_hidden_state.shape[1] > 1
