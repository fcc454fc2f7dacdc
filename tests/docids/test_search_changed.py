"""A search over a tree that changed finds what one over a tree built anew does, and nothing that was removed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.layered_tree import LayeredTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from tests.docids.naive import EOS, HashModel, random_docids

VOCAB = 24


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), built=st.integers(1, 25), later=st.integers(0, 12), num_beams=st.integers(1, 8))
def test_changed_trees_are_searched_as_trees_built_anew(seed: int, built: int, later: int, num_beams: int) -> None:
    rng = np.random.default_rng(seed)
    docids = random_docids(rng, built + later, vocab=VOCAB, branching=int(rng.integers(1, 6)))
    gone = np.flatnonzero(rng.random(built) < 0.4)
    if later == 0 and len(gone) == built:
        gone = gone[1:]
    kept = np.setdiff1d(np.arange(built + later), gone)

    def tree_of(numbers: np.ndarray) -> PrefixTree:
        tokens = np.array([token for number in numbers for token in docids[number]])
        offsets = np.cumsum([0, *(len(docids[number]) for number in numbers)])
        return PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=numbers)

    added = tree_of(np.arange(built, built + later)) if later else None
    changed = LayeredTree(tree_of(np.arange(built)), removed=gone, added=added)
    options = {"start_token_id": 0, "num_beams": num_beams, "k": built + later}
    found = search(HashModel(2, VOCAB, seed=seed), changed, **options)
    expected = search(HashModel(2, VOCAB, seed=seed), tree_of(kept), **options)
    for query in range(2):
        assert found.documents[query].tolist() == expected.documents[query].tolist()
        assert found.leaves[query].tolist() == expected.leaves[query].tolist()
        assert found.scores[query].tolist() == pytest.approx(expected.scores[query].tolist(), abs=1e-6)
        assert not set(found.documents[query].tolist()) & set(gone.tolist())


def test_without_documents_nothing_is_found() -> None:
    tree = LayeredTree(PrefixTree.build([[5, EOS], [6, EOS]], eos_token_id=EOS), removed=np.array([0, 1]))
    found = search(HashModel(2, VOCAB), tree, start_token_id=0, num_beams=3, k=3)
    assert [len(documents) for documents in found.documents] == [0, 0]
