"""Constrained search on models without a network: against exhaustive scoring and a beam search written the long way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.hits import DocidHits
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.scoring import score_docids
from retgen.docids.search import search
from retgen.docids.topk import stable_topk
from retgen.errors import RetgenError, UsageError
from tests.docids.naive import EOS, Docid, HashModel, dict_trie, random_docids

VOCAB = 24


def find(model: HashModel, docids: Sequence[Sequence[int]], **options: int) -> tuple[PrefixTree, DocidHits]:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    return tree, search(model, tree, start_token_id=0, **options)


def long_way(
    model: HashModel, query: int, docids: Sequence[Sequence[int]], num_beams: int
) -> list[tuple[Docid, float]]:
    """Beam search on lists and dicts, with the rules of `generate`."""
    trie = dict_trie(docids)
    beams: list[tuple[Docid, float]] = [((), 0.0)]
    finished: list[tuple[Docid, float]] = []
    while beams:
        candidates = [
            ((*prefix, token), score + float(model.log_probs(query, prefix)[token]))
            for prefix, score in beams
            for token in trie[prefix]
        ]
        candidates = sorted(candidates, key=lambda pair: -pair[1])[: 2 * num_beams]
        finished += [pair for pair in candidates[:num_beams] if pair[0][-1] == EOS]
        finished = sorted(finished, key=lambda pair: -pair[1])[:num_beams]
        beams = [pair for pair in candidates if pair[0][-1] != EOS][:num_beams]
        if beams and len(finished) == num_beams and beams[0][1] <= finished[-1][1]:
            break
    return finished


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), num_beams=st.integers(1, 8), batch=st.integers(1, 3))
def test_equals_the_long_way(seed: int, count: int, num_beams: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    docids = random_docids(rng, count, vocab=VOCAB, branching=int(rng.integers(1, 6)))
    model = HashModel(batch, VOCAB, seed=seed)
    tree, hits = find(model, docids, num_beams=num_beams, k=count)
    for query in range(batch):
        expected = [
            (number, score)
            for docid, score in long_way(model, query, docids, num_beams)
            for number in range(count)
            if tuple(docids[number]) == docid
        ]
        assert hits.documents[query].tolist() == [number for number, _ in expected]
        assert hits.scores[query].tolist() == pytest.approx([score for _, score in expected], abs=1e-4)
        assert [tree.token_ids(int(leaf)) for leaf in hits.leaves[query]] == [docids[n] for n, _ in expected]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 25))
def test_with_as_many_beams_as_docids_every_document_is_found_in_order(seed: int, count: int) -> None:
    docids = random_docids(np.random.default_rng(seed), count, vocab=VOCAB)
    model = HashModel(2, VOCAB, seed=seed)
    _, hits = find(model, docids, num_beams=len({tuple(docid) for docid in docids}), k=count)
    for query in range(2):
        expected = [
            (number, score)
            for docid, score in model.exhaustive(query, docids)
            for number in range(count)
            if tuple(docids[number]) == docid
        ]
        assert hits.documents[query].tolist() == [number for number, _ in expected]
        assert hits.scores[query].tolist() == pytest.approx([score for _, score in expected], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num_beams=st.integers(1, 6))
def test_scores_are_those_of_teacher_forcing(seed: int, num_beams: int) -> None:
    docids = random_docids(np.random.default_rng(seed), 20, vocab=VOCAB)
    tree, hits = find(HashModel(1, VOCAB, seed=seed), docids, num_beams=num_beams, k=5)
    rows = [tree.token_ids(int(leaf)) for leaf in hits.leaves[0]]
    padded = torch.tensor([row + [-100] * (10 - len(row)) for row in rows])[None]
    scored = score_docids(HashModel(1, VOCAB, seed=seed), padded, start_token_id=0)
    assert scored[0].tolist() == pytest.approx(hits.scores[0].tolist(), abs=1e-4)


def test_k_counts_documents_and_a_shared_docid_gives_each_of_its_documents_once() -> None:
    docids = [[3, EOS], [4, 5, EOS], [3, EOS], [3, EOS], [6, EOS]]
    for k in range(1, 6):
        model = HashModel(1, VOCAB, seed=5)
        order = [
            number for docid, _ in model.exhaustive(0, docids) for number in range(5) if tuple(docids[number]) == docid
        ]
        _, hits = find(model, docids, num_beams=5, k=k)
        assert hits.documents[0].tolist() == order[:k]
        assert len(hits.leaves[0]) == len(hits.scores[0]) == k


def test_rows_stop_growing_at_the_number_of_open_beams() -> None:
    model = HashModel(2, VOCAB)
    find(model, [[3, 4, EOS], [3, 5, EOS], [6, EOS]], num_beams=8, k=3)
    assert model.widths[0] == 1
    assert max(model.widths) == 2  # 3 … and 6; then 3 4 and 3 5: never the eight that were allowed


def test_ties_keep_the_order_of_the_tree() -> None:
    class Flat(HashModel):
        def logits(self, query: int, prefix: Docid) -> np.ndarray:
            return np.zeros(self.vocab_size, dtype=np.float32)

    docids = [[9, EOS], [4, EOS], [7, EOS], [2, EOS]]
    _, hits = find(Flat(1, VOCAB), docids, num_beams=4, k=4)
    assert hits.documents[0].tolist() == [3, 1, 2, 0]
    assert hits.scores[0].tolist() == pytest.approx([2 * -np.log(VOCAB)] * 4)


def test_tokens_the_model_cannot_write_are_no_path() -> None:
    class Never4(HashModel):
        def logits(self, query: int, prefix: Docid) -> np.ndarray:
            values = super().logits(query, prefix)
            values[4] = -np.inf
            return values

    _, hits = find(Never4(1, VOCAB), [[4, EOS], [5, EOS], [6, 4, EOS]], num_beams=3, k=3)
    assert hits.documents[0].tolist() == [1]
    _, nothing = find(Never4(2, VOCAB), [[4, EOS]], num_beams=3, k=3)
    assert [len(row) for row in nothing.documents] == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    class Broken(HashModel):
        def logits(self, query: int, prefix: Docid) -> np.ndarray:
            values = super().logits(query, prefix)
            values[7] = bad if len(prefix) == 1 else values[7]
            return values

    with pytest.raises(RetgenError, match="not finite"):
        find(Broken(1, VOCAB), [[4, 5, EOS], [5, EOS]], num_beams=2, k=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "greedy"}, "no search with strategy 'greedy'. There is: 'beam', 'lookahead', 'exact'"),
        ({"rule": "children"}, "no search with rule 'children'. There is: 'model', 'trie'"),
        ({"strategy": "exact", "early_stopping": True}, "has no early stopping"),
        ({"strategy": "exact", "max_expansions": 0}, "max_expansions must be at least 1"),
        ({"allowed_documents": [-1]}, "corpus numbers start at 0"),
        ({"allowed_documents": ["a"]}, "corpus numbers or a mask"),
        ({"document_order": [1]}, "document number 1 needs a value"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"k": 0}, "k must be at least 1"),
    ],
)
def test_wrong_options_say_what_there_is(options: dict[str, object], message: str) -> None:
    tree = PrefixTree.build([[3, EOS], [3, EOS]], eos_token_id=EOS)
    with pytest.raises(UsageError, match=message):
        search(HashModel(1, VOCAB), tree, start_token_id=0, **options)  # type: ignore[arg-type]


def test_a_tree_with_tokens_the_model_lacks_is_an_error() -> None:
    with pytest.raises(UsageError, match="vocabulary has 24"):
        find(HashModel(1, VOCAB), [[VOCAB, EOS]], num_beams=1, k=1)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.25, float("-inf"), 1e-30]), min_size=1, max_size=12),
    k=st.integers(1, 14),
)
def test_stable_topk_is_a_stable_sort(values: list[float], k: int) -> None:
    expected = sorted(range(len(values)), key=lambda place: -values[place])[:k]
    best, places = stable_topk(torch.tensor([values]), k)
    assert places[0].tolist() == expected
    assert best[0].tolist() == [pytest.approx(values[place]) for place in expected]


def test_scoring_in_pieces_changes_nothing_and_rows_without_docid_are_impossible() -> None:
    rng = np.random.default_rng(0)
    tokens = torch.full((2, 5, 4), -100)
    for query in range(2):
        for row in range(4):
            docid = [*rng.integers(2, VOCAB, size=rng.integers(1, 4)).tolist(), EOS]
            tokens[query, row, : len(docid)] = torch.tensor(docid)
    model = HashModel(2, VOCAB)
    whole = score_docids(model, tokens, start_token_id=0)
    pieces = score_docids(model, tokens, start_token_id=0, max_bytes=1)
    assert torch.equal(whole, pieces)
    assert whole[:, 4].tolist() == [float("-inf")] * 2
    expected = model.exhaustive(1, [[t for t in tokens[1, 2].tolist() if t >= 0]])[0][1]
    assert float(whole[1, 2]) == pytest.approx(expected, abs=1e-4)


def test_scoring_the_wrong_shape_or_token_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"shape \(2, m, length\)"):
        score_docids(HashModel(2, VOCAB), torch.zeros(1, 1, 2, dtype=torch.int64), start_token_id=0)
    with pytest.raises(UsageError, match="token 99"):
        score_docids(HashModel(1, VOCAB), torch.full((1, 1, 2), 99), start_token_id=0)
