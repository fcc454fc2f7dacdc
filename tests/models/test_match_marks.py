"""Marks of the tokens that query and passage share: where they stand, which models can read them, what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from retgen.errors import UsageError
from retgen.models.cross_encoder_sources import load_cross_encoder
from retgen.models.match_marks import add_match_marks, marked_types
from retgen.models.pair_inputs import PairInputs
from retgen.rerank.cross_encoder import CrossEncoder
from tests.models.checkpoints import TEXTS
from tests.rerank.classifiers import pair_tokenizer, save_classifier

IDS = some.lists(some.integers(3, 9), max_size=8)


@given(IDS, IDS)
def test_a_token_is_marked_if_and_only_if_it_stands_on_both_sides(query: list[int], passage: list[int]) -> None:
    ids = [1, *query, 2, *passage, 2]
    sides = [0] * (len(query) + 2) + [1] * (len(passage) + 1)
    types = marked_types(ids, sides, {1, 2})
    assert [kind % 2 for kind in types] == sides
    assert [kind >= 2 for kind in types] == [token in query and token in passage for token in ids]


def test_a_cut_passage_shares_only_what_is_left_of_it() -> None:
    inputs = PairInputs(pair_tokenizer(), 16, match_marks=True)
    (near,), (far,) = inputs.rows([("gold", "gold " + "iron " * 40)]), inputs.rows([("gold", "iron " * 40 + "gold")])
    assert max(near["token_type_ids"]) == 3
    assert set(far["token_type_ids"]) == {0, 1}


@pytest.mark.parametrize("source", ["warm", "scratch:tiny"])
def test_a_model_learns_from_the_marks_alone_and_keeps_them(source: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = f"warm:{save_classifier(tmp_path / 'encoder')}" if source == "warm" else source
    texts = TEXTS if source.startswith("scratch") else None
    model, tokenizer = load_cross_encoder(source, texts=texts, match_marks=True, dropout=0.0)
    made = CrossEncoder(model, tokenizer, device="cpu", dtype="fp32")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trained = [model.base_model.embeddings.token_type_embeddings.weight, *model.classifier.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(trained, lr=0.03)
    # Every letter stands on either side equally often: which it is tells nothing.
    pairs = [(a, b) for a in "abcde" for b in "abcde"]
    labels = torch.tensor([float(a == b) for a, b in pairs])
    batch = made.encode(pairs)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(made.logits(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = made.predict([(a, b) for a in "fgh" for b in "fgh"]).reshape(3, 3)
    assert scores.diagonal().min() > scores[~torch.eye(3, dtype=torch.bool).numpy()].max()
    made.save(tmp_path / "saved")
    again = CrossEncoder.from_pretrained(tmp_path / "saved", device="cpu", dtype="fp32")
    assert again.inputs.match_marks
    assert again.predict(pairs) == pytest.approx(made.predict(pairs), abs=1e-5)


def test_marks_are_added_once(tmp_path: Path) -> None:
    model, _ = load_cross_encoder(f"warm:{save_classifier(tmp_path / 'encoder')}", match_marks=True)
    before = model.base_model.embeddings.token_type_embeddings.weight.clone()
    add_match_marks(model)
    assert torch.equal(model.base_model.embeddings.token_type_embeddings.weight, before)


def test_models_that_cannot_read_marks_are_refused(tmp_path: Path) -> None:
    for family in ("roberta", "distilbert", "modernbert"):
        with pytest.raises(UsageError, match="no token types"):
            load_cross_encoder(f"warm:{save_classifier(tmp_path / family, family)}", match_marks=True)
    with pytest.raises(UsageError, match="trained cross-encoder"):
        load_cross_encoder(save_classifier(tmp_path / "bert"), match_marks=True)
    tokenizer = pair_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    with pytest.raises(UsageError, match="makes none"):
        PairInputs(tokenizer, 32, match_marks=True)
