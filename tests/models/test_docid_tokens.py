"""Tokens for docids alone join the tokenizer and the network of every source, on the source's own scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from retgen.errors import UsageError
from retgen.models.docid_tokens import add_docid_tokens, grow_docid_tokens
from retgen.models.saving import load_saved, save_model
from retgen.models.sources import load_model
from tests.models.checkpoints import TEXTS, save_encoder, save_seq2seq
from tests.models.test_warm_start import FAMILIES

TOKENS = [f"<{place}:{number}>" for place in range(3) for number in range(20)]


@pytest.fixture(params=["scratch", "T5", "BERT"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    if request.param == "scratch":
        return "scratch:tiny", {}
    if request.param == "T5":
        save_seq2seq(tmp_path / "source")
        return str(tmp_path / "source"), {}
    save_encoder(tmp_path / "source", FAMILIES["bert"], marks=False)
    return f"warm:{tmp_path / 'source'}", {"decoder_layers": 1}


def test_a_network_grows_by_them_and_keeps_what_it_knew(source: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_model(source[0], texts=TEXTS, **source[1])
    words = tokenizer(list(TEXTS))["input_ids"]
    before, known = model.shared.weight.detach().clone(), len(tokenizer)
    ids = grow_docid_tokens(model, tokenizer, TOKENS)
    assert (ids.start, len(ids)) == (known, len(TOKENS))
    assert model.config.docid_tokens == [ids.start, ids.stop]
    assert len(tokenizer) == ids.stop <= model.shared.num_embeddings == model.config.vocab_size
    assert model.lm_head.out_features == len(model.token_weights) == model.config.vocab_size
    assert tokenizer(list(TEXTS))["input_ids"] == words
    assert tokenizer("".join(TOKENS[::7]), add_special_tokens=False)["input_ids"] == list(ids)[::7]
    new = model.shared.weight.detach()
    assert torch.equal(new[:known], before[:known])
    # On the source's scale, each another: what is written at first is not decided by how long a vector is.
    assert float(new[list(ids)].std()) == pytest.approx(float(before[:known].std()), rel=0.25)
    assert len(new[list(ids)].unique(dim=0)) == len(ids)
    assert float(model.token_weights[list(ids)].abs().max()) == 0
    if model.config.output_bias:
        bias = model.lm_head.bias.detach()
        assert float(bias[list(ids)].exp().sum()) == pytest.approx(1.0, rel=1e-4)
        assert float(bias[ids.start]) == pytest.approx(-math.log(len(ids)))
    save_model(model, tokenizer, tmp_path / "saved")
    loaded, its_own = load_saved(tmp_path / "saved")
    assert torch.equal(loaded.shared.weight, model.shared.weight)
    # Trained further, on the same docids, nothing is added twice.
    weights = loaded.shared.weight.detach().clone()
    assert grow_docid_tokens(loaded, its_own, TOKENS) == ids
    assert torch.equal(loaded.shared.weight, weights)


def test_rows_that_a_checkpoint_left_unused_are_taken_first(tmp_path: Path) -> None:
    """T5's embeddings are more than its tokenizer's tokens."""
    model, tokenizer = load_model("scratch:tiny", texts=TEXTS)
    size = len(tokenizer)
    model.resize_token_embeddings(size + 100)
    ids = grow_docid_tokens(model, tokenizer, TOKENS)
    assert (ids.start, model.shared.num_embeddings) == (size, size + 100)


def test_tokens_of_other_docids_are_refused() -> None:
    _, tokenizer = load_model("scratch:tiny", texts=TEXTS)
    ids = add_docid_tokens(tokenizer, TOKENS)
    assert add_docid_tokens(tokenizer, TOKENS) == ids
    assert add_docid_tokens(tokenizer, TOKENS[3:9]) == ids[3:9]
    for other in ([*TOKENS, "<3:0>"], TOKENS[::2], TOKENS[::-1]):
        with pytest.raises(UsageError, match="of other docids"):
            add_docid_tokens(tokenizer, other)
    for wrong in ([], ["<0:0>", "<0:0>"]):
        with pytest.raises(UsageError, match="all different"):
            add_docid_tokens(tokenizer, wrong)
