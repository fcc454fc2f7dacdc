"""The copy head's mixture is a distribution, and its prior copies the docids that stand in the context."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retgen.models.copying import mix_targets, mix_vocabulary
from retgen.models.layout import prefix_matches
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.builders import BAR, END, EOS, FIRST, VOCAB, docid_in, inputs, tiny_model


def parts(
    model: UniGenForRetrievalAndAnswering, ids: Tensor, mask: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
    """The vocabulary's log-probabilities, log attention, gates, copies and what may be copied, for random states."""
    torch.manual_seed(0)
    with torch.no_grad():
        encoded = model.encode(ids, mask)
        layout, head = encoded.layout, model.retrieval_copy
        assert layout is not None
        assert head is not None
        hidden = torch.randn(*targets.shape, model.config.d_model)
        matches = prefix_matches(layout, targets[:, :-1], docids=True)
        keys = head.keys(encoded.states["retrieval"], layout)
        attention = head.log_attention(hidden, keys, layout, matches)
        vocabulary = model.vocabulary_logits(hidden).log_softmax(dim=-1)
        return vocabulary, attention, head.log_gate(hidden, layout), layout.copy_ids, layout.copyable


@pytest.mark.parametrize("variant", ["t5, copying", "bert, copying"])
def test_the_mixture_sums_to_one_and_agrees_with_its_targets(variant: str) -> None:
    ids, mask = inputs(batch=4)
    targets = torch.randint(FIRST, VOCAB, (4, 5))
    targets[:, :2] = ids[:, -6:-4]
    vocabulary, attention, gates, copy_ids, copyable = parts(tiny_model(variant), ids, mask, targets)
    assert torch.allclose(attention.exp().sum(dim=-1), torch.ones(4, 5), atol=1e-5)
    assert float(attention.exp().masked_fill(copyable.unsqueeze(1), 0.0).max()) == 0.0
    whole = mix_vocabulary(vocabulary, attention, gates, copy_ids)
    assert torch.allclose(whole.exp().sum(dim=-1), torch.ones(4, 5), atol=1e-5)
    for wanted in (targets, torch.full_like(targets, EOS)):
        same = (copy_ids.unsqueeze(1) == wanted.unsqueeze(2)) & copyable.unsqueeze(1)
        chosen = vocabulary.gather(2, wanted.unsqueeze(2)).squeeze(2)
        found = mix_targets(chosen, attention, gates, same)
        assert torch.allclose(found, whole.gather(2, wanted.unsqueeze(2)).squeeze(2), atol=1e-4)


def test_where_nothing_can_be_copied_all_is_written() -> None:
    model = tiny_model("t5, copying")
    ids, mask = torch.tensor([[EOS, 0, 0], [FIRST, FIRST + 1, EOS]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    vocabulary, attention, gates, copy_ids, copyable = parts(model, ids, mask, torch.full((2, 3), FIRST))
    assert copyable.any(dim=1).tolist() == [False, True]
    whole = mix_vocabulary(vocabulary, attention, gates, copy_ids)
    assert torch.allclose(whole[0], vocabulary[0], atol=1e-5)
    assert not torch.allclose(whole[1], vocabulary[1], atol=1e-2)


def test_untrained_it_copies_docids_and_prefers_overlap_then_rank() -> None:
    # Fresh weights and a flat content score: what is left is the prior.
    model = tiny_model("t5, copying", noise=0.0)
    a, b, c, d, e = range(10, 15)
    ids = torch.tensor([[a, b, BAR, c, d, END, e, BAR, d, c, END, a, b, BAR, EOS]])
    with torch.no_grad():
        model.retrieval_copy.query.weight.zero_()
        model.retrieval_copy.block_query.weight.zero_()
        encoded = model.encode(ids, torch.ones_like(ids))

        def score(*docid: int) -> float:
            labels = torch.tensor([[*docid, EOS]])
            return float(model.target_log_probabilities("retrieval", encoded, labels).sum())

        listed = [score(*docid_in(ids[0].tolist(), block)[:-1]) for block in (0, 1)]
        assert listed[1] > listed[0]  # the second block repeats the question
        assert listed[0] > max(score(c, c), score(a, b), score(c), score(e)) + 2
        model.retrieval_copy.overlap_weight.zero_()
        listed = [score(*docid_in(ids[0].tolist(), block)[:-1]) for block in (0, 1)]
        assert listed[0] > listed[1]  # and without that, the first one stands first


def test_without_the_lexical_prior_overlap_is_neither_seen_nor_learned() -> None:
    model = tiny_model("t5, copying", noise=0.0, lexical_prior=False)
    assert float(model.retrieval_copy.overlap_weight.detach()) == 0.0
    assert not model.retrieval_copy.overlap_weight.requires_grad


def test_a_long_input_is_mixed_without_comparing_its_positions_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    copy_ids = torch.randint(0, 9, (2, 40))
    attention = torch.randn(2, 3, 40).log_softmax(dim=-1)
    gates = (torch.full((2, 3), 0.3).log(), torch.full((2, 3), 0.7).log())
    vocabulary = torch.randn(2, 3, 12).log_softmax(dim=-1)
    short = mix_vocabulary(vocabulary, attention, gates, copy_ids)
    monkeypatch.setattr("retgen.models.copying._PAIRED", 39)
    long = mix_vocabulary(vocabulary, attention, gates, copy_ids)
    torch.testing.assert_close(long, short)
    assert torch.allclose(long.exp().sum(dim=-1), torch.ones(2, 3))
