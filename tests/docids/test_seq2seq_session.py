"""The session of an encoder-decoder: decoding by rows equals scoring whole sequences without a cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedModel

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.scoring import score_docids
from retgen.docids.search import search
from retgen.docids.session import DecoderSession, ScoringSession
from retgen.errors import RetgenError, UsageError
from retgen.models.seq2seq_session import Seq2SeqSession
from tests.docids.naive import EOS, padded_inputs, random_docids, tiny_bart, tiny_t5

MODELS = {
    "t5": lambda: tiny_t5(0),
    "t5, unlike depths": lambda: tiny_t5(0, encoder_layers=1),
    "bart": lambda: tiny_bart(0),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return MODELS[request.param]()


def test_satisfies_the_protocols(model: PreTrainedModel) -> None:
    session = Seq2SeqSession.encode(model, *padded_inputs(np.random.default_rng(0), 2, 40))
    assert isinstance(session, DecoderSession)
    assert isinstance(session, ScoringSession)


def test_steps_and_reorders_equal_whole_sequences(model: PreTrainedModel) -> None:
    rng = np.random.default_rng(1)
    batch = 3
    inputs = padded_inputs(rng, batch, 40)
    session = Seq2SeqSession.encode(model, *inputs)
    rows = torch.zeros((batch, 1, 0), dtype=torch.int64)
    for width in (1, 4, 4, 2, 3, 1):
        if rows.shape[2]:
            parents = torch.from_numpy(rng.integers(0, rows.shape[1], size=(batch, width)))
            session.reorder(parents)
            rows = rows.gather(1, parents[..., None].expand(-1, -1, rows.shape[2]))
        tokens = torch.from_numpy(rng.integers(2, 40, size=(batch, width)))
        rows = torch.cat([rows, tokens[..., None]], dim=2)
        logits = session.step(tokens)
        assert logits.dtype == torch.float32
        ids, mask = (part.repeat_interleave(width, dim=0) for part in inputs)
        with torch.no_grad():
            whole = model(input_ids=ids, attention_mask=mask, decoder_input_ids=rows.flatten(0, 1), use_cache=False)
        assert torch.allclose(logits, whole.logits[:, -1].reshape(logits.shape), atol=1e-4)
        scored = session.score(rows)
        assert torch.allclose(scored, whole.logits.reshape(scored.shape), atol=1e-4)


def test_search_and_candidates_give_one_score(model: PreTrainedModel) -> None:
    docids = random_docids(np.random.default_rng(2), 30, vocab=40)
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    session = Seq2SeqSession.encode(model, *padded_inputs(np.random.default_rng(2), 2, 40))
    start = model.config.decoder_start_token_id
    rows = [tree.token_ids(leaf) for leaf in range(tree.num_leaves)]
    padded = torch.tensor([row + [-100] * (tree.max_length - len(row)) for row in rows]).expand(2, -1, -1)
    scores = score_docids(session, padded, start_token_id=start, max_bytes=50_000)
    hits = search(session, tree, start_token_id=start, num_beams=tree.num_leaves, k=len(docids))
    for query in range(2):
        assert sorted(hits.documents[query].tolist()) == list(range(len(docids)))
        assert hits.scores[query].tolist() == pytest.approx(scores[query, hits.leaves[query]].tolist(), abs=1e-4)


def test_a_bf16_model_projects_in_fp32() -> None:
    model = tiny_t5(0)
    inputs = padded_inputs(np.random.default_rng(0), 2, 40)
    bf16 = tiny_t5(0).to(torch.bfloat16)
    session = Seq2SeqSession.encode(bf16, *inputs)
    logits = session.step(torch.zeros((2, 1), dtype=torch.int64))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())  # finer than bf16 can say
    exact = Seq2SeqSession.encode(model, *inputs).step(torch.zeros((2, 1), dtype=torch.int64))
    assert torch.allclose(logits, exact, atol=1.0)
    # The model itself is left as it was.
    with torch.no_grad():
        output = bf16(input_ids=inputs[0], decoder_input_ids=torch.zeros((2, 1), dtype=torch.int64))
    assert output.logits.dtype == torch.bfloat16


def test_weights_that_overflowed_are_an_error() -> None:
    model = tiny_t5(0)
    with torch.no_grad():
        model.get_output_embeddings().weight[7] = torch.nan
    session = Seq2SeqSession.encode(model, *padded_inputs(np.random.default_rng(0), 1, 40))
    with pytest.raises(RetgenError, match="not finite"):
        search(session, PrefixTree.build([[3, EOS]], eos_token_id=EOS), start_token_id=0)


def test_wrong_use_is_an_error() -> None:
    model = tiny_t5(0)
    ids, mask = padded_inputs(np.random.default_rng(0), 2, 40)
    session = Seq2SeqSession.encode(model, ids, mask)
    with pytest.raises(UsageError, match="1 rows for each of 2 queries"):
        session.step(torch.zeros((2, 3), dtype=torch.int64))
    with pytest.raises(UsageError, match=r"\(2, m, length\)"):
        session.score(torch.zeros((3, 1, 2), dtype=torch.int64))
    with pytest.raises(UsageError, match="training mode"):
        Seq2SeqSession.encode(model.train(), ids, mask)
    encoder_only = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(UsageError, match="not an encoder-decoder"):
        Seq2SeqSession(encoder_only.eval(), torch.zeros(1, 2, 4), torch.ones(1, 2))
