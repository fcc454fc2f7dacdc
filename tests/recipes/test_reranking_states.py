"""Passage states in a recipe: kept for all generators of one frozen encoder, for no others; the scores stay."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from retgen.models.generator_sources import save_generator
from retgen.recipes.reranking import open_reranker
from retgen.types import Query, Run
from tests.models.generators import PASSAGES, QUERIES, seq2seq


@pytest.mark.parametrize("frozen", [True, False])
def test_states_are_kept_for_a_frozen_encoder_alone(frozen: bool, tmp_path: Path) -> None:
    model, tokenizer = seq2seq("warm")
    model = copy.deepcopy(model)
    model.freeze_encoder(frozen)  # type: ignore[operator]
    save_generator(model, tokenizer, tmp_path / "model")
    documents = {passage.id: passage for passage in PASSAGES}
    ids = tuple(documents)
    run = Run(["q"], [ids], [[-float(rank) for rank in range(len(ids))]])

    def scores(states: Path | None) -> np.ndarray:
        reranker = open_reranker("generator", tmp_path / "model", "jpr", states=states)
        found = reranker.rerank([Query("q", QUERIES[0])], run, documents)
        return found.scores("q", "generator")[np.argsort(found.doc_ids("q"))]

    plain = scores(None)
    for _ in range(2):
        np.testing.assert_allclose(scores(tmp_path / "states"), plain, atol=1e-6)
    kept = list((tmp_path / "states").glob("*/*.safetensors"))
    assert bool(kept) == frozen
    assert len(kept) <= 1  # the second time, nothing was to be added
