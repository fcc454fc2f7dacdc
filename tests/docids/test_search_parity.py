"""Parity: constrained search gives what transformers' `generate(prefix_allowed_tokens_fn=…)` gives, hit for hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.models.seq2seq_session import Seq2SeqSession
from retgen.models.t5_session import T5Session, open_session
from tests.docids.naive import EOS, PAD, Docid, generated, padded_inputs, random_docids, tiny_bart, tiny_mt5, tiny_t5

Inputs = tuple[torch.Tensor, torch.Tensor]
Found = list[list[tuple[Docid, float]]]


def ours(
    model: PreTrainedModel,
    inputs: Inputs,
    docids: Sequence[Sequence[int]],
    num_beams: int,
    *,
    early_stopping: bool = False,
) -> Found:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    hits = search(
        open_session(model, *inputs),
        tree,
        start_token_id=model.config.decoder_start_token_id,
        num_beams=num_beams,
        k=len(docids),
        early_stopping=early_stopping,
    )
    rows: Found = []
    for leaves, scores in zip(hits.leaves, hits.scores, strict=True):
        # Documents that share a docid follow one another with one score; generate gives the docid once.
        first = np.append(np.ones(min(1, len(leaves)), bool), leaves[1:] != leaves[:-1])
        pairs = zip(leaves[first], scores[first], strict=True)
        rows.append([(tuple(tree.token_ids(int(leaf))), float(score)) for leaf, score in pairs])
    return rows


def assert_same(found: Found, expected: Found) -> None:
    assert [[docid for docid, _ in row] for row in found] == [[docid for docid, _ in row] for row in expected]
    for row, expected_row in zip(found, expected, strict=True):
        assert [score for _, score in row] == pytest.approx([score for _, score in expected_row], abs=1e-4)


@pytest.mark.parametrize("num_beams", range(1, 9))
@pytest.mark.parametrize("seed", range(6))
def test_equals_generate(seed: int, num_beams: int) -> None:
    rng = np.random.default_rng(seed)
    docids = random_docids(
        rng,
        int(rng.integers(15, 60)),
        vocab=40,
        longest=int(rng.integers(2, 8)),
        branching=int(rng.integers(2, 12)),
    )
    model = tiny_t5(seed, tied=bool(seed % 2), peak=float(rng.choice([0.5, 2.0, 4.0])))
    inputs = padded_inputs(rng, 3, 40)
    assert_same(ours(model, inputs, docids, num_beams), generated(model, inputs, docids, num_beams))


@pytest.mark.parametrize("early_stopping", [True, "never"])
@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_generate_however_it_stops(seed: int, num_beams: int, early_stopping: bool | str) -> None:
    # Wide trees: in narrow ones generate fills its beams with copies, and lets those end an early-stopping search.
    rng = np.random.default_rng(100 + seed)
    docids = [[*rng.integers(2, 40, size=rng.integers(1, 5)).tolist(), EOS] for _ in range(800)]
    model, inputs = tiny_t5(seed, peak=3.0), padded_inputs(rng, 3, 40)
    expected = generated(model, inputs, docids, num_beams, early_stopping=early_stopping)
    assert all(len(row) == num_beams for row in expected)
    # "never" and False differ only where a length penalty is set.
    assert_same(ours(model, inputs, docids, num_beams, early_stopping=early_stopping is True), expected)


def test_stopping_rules_differ_on_these_trees() -> None:
    """The parity above would say nothing about early stopping if it never changed a result."""
    differ = 0
    for seed in range(3):
        rng = np.random.default_rng(100 + seed)
        docids = [[*rng.integers(2, 40, size=rng.integers(1, 5)).tolist(), EOS] for _ in range(800)]
        model, inputs = tiny_t5(seed, peak=3.0), padded_inputs(rng, 3, 40)
        differ += ours(model, inputs, docids, 5) != ours(model, inputs, docids, 5, early_stopping=True)
    assert differ


@pytest.mark.parametrize("num_beams", [1, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_beams_are_refilled_after_finished_ones(seed: int, num_beams: int) -> None:
    """Short docids that are prefixes of long ones finish early, and their slots go on with others."""
    rng = np.random.default_rng(200 + seed)
    long = [rng.integers(2, 6, size=6).tolist() for _ in range(30)]
    docids = [[*docid[:length], EOS] for docid in long for length in (1, 2, 3, 6)]
    model, inputs = tiny_t5(seed, peak=1.0), padded_inputs(rng, 2, 40)
    expected = generated(model, inputs, docids, num_beams)
    assert num_beams == 1 or len({len(docid) for row in expected for docid, _ in row}) > 1
    assert_same(ours(model, inputs, docids, num_beams), expected)


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_generate_with_bart(seed: int, num_beams: int) -> None:
    rng = np.random.default_rng(seed)
    docids = random_docids(rng, 40, vocab=40)
    model, inputs = tiny_bart(seed), padded_inputs(rng, 3, 40)
    assert_same(ours(model, inputs, docids, num_beams), generated(model, inputs, docids, num_beams))


@pytest.mark.parametrize("num_beams", [2, 8])
def test_fewer_docids_than_beams(num_beams: int) -> None:
    rng = np.random.default_rng(1)
    docids = [[5, 7, EOS], [5, EOS], [9, 7, 7, EOS], [5, 7, EOS]]
    model, inputs = tiny_t5(1), padded_inputs(rng, 2, 40)
    found = ours(model, inputs, docids, num_beams)
    assert_same(found, generated(model, inputs, docids, num_beams))
    if num_beams >= 3:
        assert [len(row) for row in found] == [3, 3]
        assert_same(found, generated(model, inputs, docids, 3))


@pytest.mark.parametrize("num_beams", [1, 4])
def test_one_document(num_beams: int) -> None:
    model, inputs = tiny_t5(2), padded_inputs(np.random.default_rng(2), 2, 40)
    assert_same(ours(model, inputs, [[5, 7, 6, EOS]], num_beams), generated(model, inputs, [[5, 7, 6, EOS]], num_beams))


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_both_sessions_of_a_t5_find_the_same(family: str) -> None:
    rng = np.random.default_rng(4)
    docids = random_docids(rng, 50, vocab=40)
    model, inputs = (tiny_t5(4) if family == "t5" else tiny_mt5(4)), padded_inputs(rng, 3, 40)
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    for strategy in ("beam", "lookahead", "exact"):
        for rule in ("model", "trie"):
            one, other = (
                search(
                    session.encode(model, *inputs), tree, start_token_id=PAD, num_beams=4, strategy=strategy, rule=rule
                )
                for session in (T5Session, Seq2SeqSession)
            )
            for query in range(3):
                assert one.documents[query].tolist() == other.documents[query].tolist()
                assert one.scores[query] == pytest.approx(other.scores[query], abs=1e-4)


def test_a_t5_in_bf16_is_judged_in_fp32() -> None:
    rng = np.random.default_rng(5)
    docids = random_docids(rng, 30, vocab=40)
    inputs = padded_inputs(rng, 2, 40)
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    session = T5Session.encode(tiny_t5(5).to(torch.bfloat16), *inputs)
    hits = search(session, tree, start_token_id=PAD, k=5, strategy="exact")
    everything = search(session.in_fp32(), tree, start_token_id=PAD, num_beams=tree.num_leaves, k=len(docids))
    assert hits.certificates is not None
    for query, certificate in enumerate(hits.certificates):
        truth = dict(zip(everything.documents[query].tolist(), everything.scores[query].tolist(), strict=True))
        found = hits.documents[query].tolist()
        assert hits.scores[query] == pytest.approx([truth[number] for number in found], abs=1e-4)
        if certificate.certified:
            assert found == everything.documents[query][:5].tolist()


def test_padding_and_block_size_change_nothing() -> None:
    rng = np.random.default_rng(3)
    docids = random_docids(rng, 50, vocab=40)
    model, (ids, mask) = tiny_t5(3), padded_inputs(rng, 4, 40)
    together = ours(model, (ids, mask), docids, 4)
    for query in range(4):
        length = int(mask[query].sum())
        alone = ours(model, (ids[query : query + 1, :length], mask[query : query + 1, :length]), docids, 4)
        assert_same(alone, together[query : query + 1])
